//! Functions of Postgres and of the API that SQLite calls back for.
//!
//! It is long because it is a list of small, independent functions.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::functions::{Aggregate, Context as Call, FunctionFlags};
use rusqlite::types::{Value as Sqlite, ValueRef};
use rusqlite::{Connection, Result};

use super::super::catalog::{self, Source};
use super::super::error::{SqlError, codes};
use super::super::json;
use super::super::reads;
use super::super::snapshot::Snapshot;
use super::super::types::{PgType, Value, parse_text, print_text, print_time_json};

/// What the functions may know.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) extension_version: Arc<str>,
    pub(super) server_version: Arc<str>,
    pub(super) backend_pid: i32,
    pub(super) now: i64,
}

/// The error of a function, which SQLite itself would reduce to a text.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<SqlError>>>);

impl Failure {
    pub(super) fn take(&self) -> Option<SqlError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: SqlError) -> rusqlite::Error {
        let text = error.message.clone();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        rusqlite::Error::UserFunctionError(text.into())
    }
}

fn value(call: &Call<'_>, at: usize) -> Value {
    match call.get_raw(at) {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Value::Text(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

fn values(call: &Call<'_>) -> Vec<Value> {
    (0..call.len()).map(|at| value(call, at)).collect()
}

fn sqlite(value: Value) -> Sqlite {
    match value {
        Value::Null => Sqlite::Null,
        Value::Int(number) => Sqlite::Integer(number),
        Value::Real(number) => Sqlite::Real(number),
        Value::Text(text) => Sqlite::Text(text),
    }
}

fn int(value: Option<&Value>) -> Option<i64> {
    match value {
        Some(Value::Int(number)) => Some(*number),
        Some(Value::Null | Value::Real(_) | Value::Text(_)) | None => None,
    }
}

fn text(value: Option<&Value>) -> Option<&str> {
    match value {
        Some(Value::Text(text)) => Some(text),
        Some(Value::Null | Value::Real(_) | Value::Int(_)) | None => None,
    }
}

/// Longest `generate_series`. Chosen.
const MAX_SERIES: i64 = 100_000;

type Body = dyn Fn(&Context, &[Value]) -> std::result::Result<Value, SqlError> + Send + 'static;

/// Registers all functions on a connection.
pub(super) fn register(
    connection: &Connection,
    context: &Context,
    failure: &Failure,
) -> Result<()> {
    let add = |name: &str, args: i32, body: Box<Body>| {
        let (context, failure) = (context.clone(), failure.clone());
        connection.create_scalar_function(name, args, FunctionFlags::SQLITE_UTF8, move |call| {
            body(&context, &values(call))
                .map(sqlite)
                .map_err(|error| failure.set(error))
        })
    };
    api(&add)?;
    types(&add)?;
    texts(&add)?;
    arrays(&add)?;
    lookups(&add)?;
    let flags = FunctionFlags::SQLITE_UTF8;
    connection.create_aggregate_function("pgaf_array", 1, flags, ArrayOf)
}

type Add<'a> = dyn Fn(&str, i32, Box<Body>) -> Result<()> + 'a;

fn api(add: &Add<'_>) -> Result<()> {
    add(
        "pgaf_formation_uri",
        5,
        Box::new(|context, args| {
            let null = args.contains(&Value::Null);
            let uri = reads::formation_uri(&context.snapshot, args);
            Ok(uri.filter(|_| !null).into())
        }),
    )?;
    add(
        "pgaf_standby_names",
        2,
        Box::new(
            |context, args| match (text(args.first()), int(args.get(1))) {
                (Some(formation), Some(group)) => {
                    reads::synchronous_standby_names(&context.snapshot, formation, group)
                        .map(Value::from)
                }
                _ => Ok(Value::Null),
            },
        ),
    )?;
    add("pgaf_now", 0, Box::new(|context, _| Ok(context.now.into())))?;
    add(
        "pgaf_backend_pid",
        0,
        Box::new(|context, _| Ok(context.backend_pid.into())),
    )?;
    add(
        "pgaf_version",
        0,
        Box::new(|context, _| Ok(format!("PostgreSQL {}", context.server_version).into())),
    )?;
    add(
        "pgaf_setting",
        2,
        Box::new(|context, args| {
            let name = text(args.first()).unwrap_or_default().to_ascii_lowercase();
            let source = Source {
                snapshot: &context.snapshot,
                events: &[],
                extension_version: &context.extension_version,
                server_version: &context.server_version,
            };
            match catalog::setting(&source, &name) {
                Some(setting) => Ok(setting.into()),
                None if int(args.get(1)) == Some(1) => Ok(Value::Null),
                None => Err(unknown_setting(&name)),
            }
        }),
    )
}

/// The error for a setting that does not exist.
pub(super) fn unknown_setting(name: &str) -> SqlError {
    SqlError::new(
        codes::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
}

fn type_of(value: Option<&Value>) -> PgType {
    let oid = int(value)
        .and_then(|oid| u32::try_from(oid).ok())
        .unwrap_or(0);
    match oid {
        1186 => PgType::Interval,
        oid => PgType::of_parameter_oid(oid).unwrap_or(PgType::Text),
    }
}

fn types(add: &Add<'_>) -> Result<()> {
    add(
        "pgaf_text",
        2,
        Box::new(|_, args| {
            let ty = type_of(args.get(1));
            Ok(match (args.first(), ty) {
                (Some(Value::Int(value)), PgType::Bool) => {
                    (if *value == 0 { "false" } else { "true" }).into()
                }
                (Some(Value::Text(text)), PgType::Jsonb) => json::canonical(text).into(),
                (Some(value), ty) => print_text(value, ty).into(),
                (None, _) => Value::Null,
            })
        }),
    )?;
    add(
        "pgaf_parse",
        2,
        Box::new(|_, args| match args.first() {
            Some(Value::Text(text)) => parse_text(text, type_of(args.get(1))),
            Some(Value::Int(number)) => parse_text(&number.to_string(), type_of(args.get(1))),
            Some(Value::Real(number)) => parse_text(&format!("{number:.0}"), type_of(args.get(1))),
            Some(Value::Null) | None => Ok(Value::Null),
        }),
    )?;
    add(
        "pgaf_time_json",
        1,
        Box::new(|_, args| Ok(int(args.first()).map(print_time_json).into())),
    )?;
    add(
        "pgaf_jsonb_pretty",
        1,
        Box::new(|_, args| Ok(text(args.first()).and_then(json::pretty).into())),
    )?;
    add(
        "pgaf_json_quote",
        1,
        Box::new(|_, args| {
            Ok(match args.first() {
                // A JSON value arrives as text; a bare text must be quoted.
                Some(Value::Text(text)) => match serde_json::from_str::<serde_json::Value>(text) {
                    Ok(json) if json.is_object() || json.is_array() || json.is_boolean() => {
                        text.as_str().into()
                    }
                    Ok(_) | Err(_) => serde_json::Value::from(text.as_str()).to_string().into(),
                },
                Some(value) => print_text(value, PgType::Int8).into(),
                None => Value::Null,
            })
        }),
    )?;
    add("pgaf_to_char", 2, Box::new(|_, args| to_char(args)))?;
    add("pgaf_divide", 3, Box::new(|_, args| divide(args)))?;
    for (name, greatest) in [("pgaf_max", true), ("pgaf_min", false)] {
        add(
            name,
            -1,
            Box::new(move |_, args| Ok(extreme(args, greatest))),
        )?;
    }
    Ok(())
}

/// GREATEST and LEAST: NULLs are ignored.
fn extreme(args: &[Value], greatest: bool) -> Value {
    use std::cmp::Ordering::{Equal, Greater};
    let order = |a: &Value, b: &Value| match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Real(a), Value::Real(b)) => a.partial_cmp(b).unwrap_or(Equal),
        (Value::Int(a), Value::Real(b)) => real(*a).partial_cmp(b).unwrap_or(Equal),
        (Value::Real(a), Value::Int(b)) => a.partial_cmp(&real(*b)).unwrap_or(Equal),
        _ => Equal,
    };
    let mut best = Value::Null;
    for value in args.iter().filter(|value| **value != Value::Null) {
        if best == Value::Null || (order(value, &best) == Greater) == greatest {
            best = value.clone();
        }
    }
    best
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a comparison of mixed numbers, as SQLite's own"
)]
fn real(number: i64) -> f64 {
    number as f64
}

fn divide(args: &[Value]) -> std::result::Result<Value, SqlError> {
    let by_zero = || SqlError::new("22012", "division by zero");
    let modulo = text(args.get(2)) == Some("%");
    Ok(match (args.first(), args.get(1)) {
        (Some(Value::Int(a)), Some(Value::Int(b))) => {
            let result = if modulo {
                a.checked_rem(*b)
            } else {
                a.checked_div(*b)
            };
            result.ok_or_else(by_zero)?.into()
        }
        (
            Some(a @ (Value::Int(_) | Value::Real(_))),
            Some(b @ (Value::Int(_) | Value::Real(_))),
        ) => {
            let number = |value: &Value| match value {
                Value::Int(number) => real(*number),
                Value::Real(number) => *number,
                Value::Null | Value::Text(_) => 0.0,
            };
            let (a, b) = (number(a), number(b));
            if b == 0.0 {
                return Err(by_zero());
            }
            Value::Real(if modulo { a % b } else { a / b })
        }
        _ => Value::Null,
    })
}

/// Patterns of `to_char`, longest first, with jiff's directives.
const PATTERNS: &[(&str, &str)] = &[
    ("YYYY", "%Y"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("Mon", "%b"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("HH", "%I"),
    ("MI", "%M"),
    ("SS", "%S"),
    ("MS", "%3f"),
    ("US", "%6f"),
    ("Dy", "%a"),
    ("AM", "%p"),
    ("PM", "%p"),
    ("TZ", "UTC"),
];

fn to_char(args: &[Value]) -> std::result::Result<Value, SqlError> {
    let (Some(micros), Some(mut rest)) = (int(args.first()), text(args.get(1))) else {
        return Ok(Value::Null);
    };
    let mut format = String::new();
    while let Some(next) = rest.chars().next() {
        if let Some((pattern, directive)) = PATTERNS
            .iter()
            .find(|(pattern, _)| rest.starts_with(pattern))
        {
            format.push_str(directive);
            rest = &rest[pattern.len()..];
            continue;
        }
        if next.is_ascii_alphabetic() && next != 'T' {
            let message = format!("to_char pattern \"{rest}\" is not supported");
            return Err(SqlError::unsupported(message));
        }
        if next == '%' {
            format.push('%');
        }
        format.push(next);
        rest = &rest[next.len_utf8()..];
    }
    let time = Timestamp::from_microsecond(micros)
        .map_err(|_| SqlError::new("22008", "timestamp out of range"))?;
    Ok(time
        .to_zoned(TimeZone::UTC)
        .strftime(&format)
        .to_string()
        .into())
}

fn texts(add: &Add<'_>) -> Result<()> {
    add("pgaf_regex", 3, Box::new(|_, args| regex(args)))?;
    add(
        "pgaf_split_part",
        3,
        Box::new(|_, args| {
            let (Some(whole), Some(glue), Some(at)) =
                (text(args.first()), text(args.get(1)), int(args.get(2)))
            else {
                return Ok(Value::Null);
            };
            let at = usize::try_from(at - 1)
                .map_err(|_| SqlError::new("22023", "field position must not be zero"))?;
            Ok(whole.split(glue).nth(at).unwrap_or_default().into())
        }),
    )?;
    add(
        "pgaf_quote_ident",
        1,
        Box::new(|_, args| {
            let quoted = text(args.first()).map(|name| {
                let plain = name.bytes().enumerate().all(|(at, byte)| {
                    byte.is_ascii_lowercase() || byte == b'_' || (at > 0 && byte.is_ascii_digit())
                });
                match plain && !name.is_empty() {
                    true => name.to_owned(),
                    false => format!("\"{}\"", name.replace('"', "\"\"")),
                }
            });
            Ok(quoted.into())
        }),
    )?;
    add(
        "pgaf_in_array",
        2,
        Box::new(|_, args| {
            Ok(match (text(args.first()), text(args.get(1))) {
                (Some(wanted), Some(array)) => elements(array).any(|item| item == wanted).into(),
                _ => Value::Null,
            })
        }),
    )?;
    add(
        "pgaf_array_to_string",
        2,
        Box::new(|_, args| {
            Ok(match (text(args.first()), text(args.get(1))) {
                (Some(array), Some(glue)) => elements(array).collect::<Vec<_>>().join(glue).into(),
                _ => Value::Null,
            })
        }),
    )
}

fn arrays(add: &Add<'_>) -> Result<()> {
    add(
        "pgaf_array_cat",
        2,
        Box::new(|_, args| {
            let arrays: Vec<&str> = args.iter().filter_map(|value| text(Some(value))).collect();
            let items: Vec<&str> = arrays.iter().flat_map(|array| elements(array)).collect();
            let joined = format!("{{{}}}", items.join(","));
            Ok((!arrays.is_empty()).then_some(joined).into())
        }),
    )?;
    add(
        "pgaf_array_json",
        1,
        Box::new(|_, args| {
            let items: Vec<&str> = text(args.first())
                .map(|array| elements(array).collect())
                .unwrap_or_default();
            Ok(serde_json::Value::from(items).to_string().into())
        }),
    )?;
    add(
        "pgaf_array_upper",
        1,
        Box::new(|_, args| {
            let count = text(args.first()).map(|array| elements(array).count());
            Ok(count
                .filter(|count| *count > 0)
                .and_then(|count| i64::try_from(count).ok())
                .into())
        }),
    )?;
    add(
        "pgaf_element",
        3,
        Box::new(|_, args| {
            let (Some(array), Some(at)) = (text(args.first()), int(args.get(1))) else {
                return Ok(Value::Null);
            };
            let at = usize::try_from(at - 1).ok();
            match at.and_then(|at| elements(array).nth(at)) {
                Some(element) => parse_text(element, type_of(args.get(2))),
                None => Ok(Value::Null),
            }
        }),
    )?;
    add(
        "pgaf_series",
        2,
        Box::new(|_, args| {
            let (Some(low), Some(high)) = (int(args.first()), int(args.get(1))) else {
                return Ok("[]".into());
            };
            if high.saturating_sub(low) >= MAX_SERIES {
                return Err(SqlError::new(
                    codes::LIMIT_EXCEEDED,
                    "the series is too long",
                ));
            }
            let numbers: Vec<String> = (low..=high).map(|number| number.to_string()).collect();
            Ok(format!("[{}]", numbers.join(",")).into())
        }),
    )
}

/// Elements of an array's text form; ours never hold a comma, a quote or a brace.
fn elements(array: &str) -> impl Iterator<Item = &str> {
    array
        .trim_start_matches('{')
        .trim_end_matches('}')
        .split(',')
        .filter(|item| !item.is_empty())
}

fn regex(args: &[Value]) -> std::result::Result<Value, SqlError> {
    let (Some(value), Some(pattern)) = (text(args.first()), text(args.get(1))) else {
        return Ok(Value::Null);
    };
    let regex = regex_lite::RegexBuilder::new(pattern)
        .case_insensitive(int(args.get(2)) == Some(1))
        .build()
        .map_err(|error| SqlError::new("2201B", format!("invalid regular expression: {error}")))?;
    Ok(regex.is_match(value).into())
}

/// Something's name by its OID.
type Lookup = fn(i64) -> Option<String>;

fn lookups(add: &Add<'_>) -> Result<()> {
    let by_oid: [(&str, Lookup); 6] = [
        ("pgaf_type_name", |oid| {
            Some(catalog::type_name(oid).map_or_else(|| "???".to_owned(), str::to_owned))
        }),
        ("pgaf_relation_name", |oid| {
            Some(catalog::relation_name(oid).unwrap_or_else(|| oid.to_string()))
        }),
        ("pgaf_schema_name", catalog::schema_name),
        ("pgaf_role_name", |oid| Some(catalog::role_name(oid))),
        ("pgaf_function_result", |oid| {
            catalog::function_texts(oid).map(|texts| texts.0)
        }),
        ("pgaf_function_arguments", |oid| {
            catalog::function_texts(oid).map(|texts| texts.1)
        }),
    ];
    for (name, lookup) in by_oid {
        add(
            name,
            1,
            Box::new(move |_, args| Ok(int(args.first()).and_then(lookup).into())),
        )?;
    }
    Ok(())
}

/// `array(SELECT …)` in text form.
struct ArrayOf;

impl Aggregate<Vec<String>, String> for ArrayOf {
    fn init(&self, _: &mut Call<'_>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn step(&self, call: &mut Call<'_>, items: &mut Vec<String>) -> Result<()> {
        items.push(print_text(&value(call, 0), PgType::Text).unwrap_or_else(|| "NULL".to_owned()));
        Ok(())
    }

    fn finalize(&self, _: &mut Call<'_>, items: Option<Vec<String>>) -> Result<String> {
        Ok(format!("{{{}}}", items.unwrap_or_default().join(",")))
    }
}
