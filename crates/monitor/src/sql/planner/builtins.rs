//! Functions of Postgres that read-only SQL may use, as SQLite expressions.
//!
//! It is long because it is mostly a table.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's enums are large; the rest is refused"
)]

use sqlparser::ast;

use super::super::auth::{DATABASE, ROLE};
use super::super::catalog::SCHEMA;
use super::super::error::{SqlError, codes};
use super::super::functions::{Returns, all};
use super::super::types::{Family, PgType};
use super::scope::split_name;
use super::{Planner, Typed, arguments, unsupported};

/// A function with fixed argument types. `{0}` … in the template are its arguments.
struct Builtin {
    name: &'static str,
    args: &'static [PgType],
    returns: PgType,
    template: &'static str,
}

const fn builtin(
    name: &'static str,
    args: &'static [PgType],
    returns: PgType,
    template: &'static str,
) -> Builtin {
    Builtin {
        name,
        args,
        returns,
        template,
    }
}

use PgType::{Bool, Int4, Int8, Name, Numeric, Oid, Text, TextArray, TimestampTz};

const BUILTINS: &[Builtin] = &[
    builtin("pg_get_function_sqlbody", &[Oid], Text, "NULL"),
    builtin(
        "array_upper",
        &[TextArray, Int8],
        Int8,
        "pgaf_array_upper({0})",
    ),
    builtin("lower", &[Text], Text, "lower({0})"),
    builtin("upper", &[Text], Text, "upper({0})"),
    builtin("length", &[Text], Int4, "length({0})"),
    builtin("char_length", &[Text], Int4, "length({0})"),
    builtin("btrim", &[Text], Text, "trim({0})"),
    builtin(
        "replace",
        &[Text, Text, Text],
        Text,
        "replace({0}, {1}, {2})",
    ),
    builtin("substr", &[Text, Int8], Text, "substr({0}, {1})"),
    builtin("substr", &[Text, Int8, Int8], Text, "substr({0}, {1}, {2})"),
    builtin("strpos", &[Text, Text], Int4, "instr({0}, {1})"),
    builtin(
        "split_part",
        &[Text, Text, Int8],
        Text,
        "pgaf_split_part({0}, {1}, {2})",
    ),
    builtin("quote_ident", &[Text], Text, "pgaf_quote_ident({0})"),
    builtin("round", &[Numeric], Numeric, "round({0})"),
    builtin("round", &[Numeric, Int8], Numeric, "round({0}, {1})"),
    builtin("now", &[], TimestampTz, "pgaf_now()"),
    builtin("transaction_timestamp", &[], TimestampTz, "pgaf_now()"),
    builtin("statement_timestamp", &[], TimestampTz, "pgaf_now()"),
    builtin("clock_timestamp", &[], TimestampTz, "pgaf_now()"),
    builtin(
        "to_char",
        &[TimestampTz, Text],
        Text,
        "pgaf_to_char({0}, {1})",
    ),
    builtin("version", &[], Text, "pgaf_version()"),
    builtin("current_schema", &[], Name, "'public'"),
    builtin("pg_backend_pid", &[], Int4, "pgaf_backend_pid()"),
    builtin("pg_is_in_recovery", &[], Bool, "0"),
    builtin("pg_postmaster_start_time", &[], TimestampTz, "NULL"),
    builtin("pg_table_is_visible", &[Oid], Bool, "0"),
    builtin("pg_function_is_visible", &[Oid], Bool, "0"),
    builtin("pg_type_is_visible", &[Oid], Bool, "1"),
    builtin("pg_relation_is_publishable", &[Oid], Bool, "0"),
    builtin("pg_get_userbyid", &[Oid], Name, "pgaf_role_name({0})"),
    builtin("pg_encoding_to_char", &[Int4], Name, "'UTF8'"),
    builtin("format_type", &[Oid, Int4], Text, "pgaf_type_name({0})"),
    builtin(
        "pg_get_function_result",
        &[Oid],
        Text,
        "pgaf_function_result({0})",
    ),
    builtin(
        "pg_get_function_arguments",
        &[Oid],
        Text,
        "pgaf_function_arguments({0})",
    ),
    builtin(
        "pg_get_function_identity_arguments",
        &[Oid],
        Text,
        "pgaf_function_arguments({0})",
    ),
    builtin("pg_get_expr", &[Text, Oid], Text, "NULL"),
    builtin("pg_get_expr", &[Text, Oid, Bool], Text, "NULL"),
    builtin("pg_get_statisticsobjdef_columns", &[Oid], Text, "NULL"),
    builtin("obj_description", &[Oid, Name], Text, "NULL"),
    builtin("col_description", &[Oid, Int4], Text, "NULL"),
    builtin("shobj_description", &[Oid, Name], Text, "NULL"),
    builtin("pg_table_size", &[Oid], Int8, "0"),
    builtin("pg_size_pretty", &[Int8], Text, "({0} || ' bytes')"),
    builtin(
        "array_to_string",
        &[TextArray, Text],
        Text,
        "pgaf_array_to_string({0}, {1})",
    ),
    builtin("current_setting", &[Text], Text, "pgaf_setting({0}, 0)"),
    builtin(
        "current_setting",
        &[Text, Bool],
        Text,
        "pgaf_setting({0}, {1})",
    ),
];

/// Words that are functions without parentheses.
pub(super) fn bare_word(name: &str) -> Option<Typed> {
    Some(match name {
        "current_timestamp" => Typed::plain("pgaf_now()", TimestampTz),
        "current_user" | "session_user" | "user" | "current_role" => {
            Typed::plain(format!("'{ROLE}'"), Name)
        }
        "current_catalog" => Typed::plain(format!("'{DATABASE}'"), Name),
        "current_schema" => Typed::plain("'public'", Name),
        _ => return None,
    })
}

/// `interval '…'` as microseconds.
pub(super) fn interval(interval: &ast::Interval) -> Result<Typed, SqlError> {
    let plain = interval.leading_precision.is_none()
        && interval.last_field.is_none()
        && interval.fractional_seconds_precision.is_none();
    let text = match interval.value.as_ref() {
        ast::Expr::Value(value) if plain => value.value.clone().into_string(),
        _ => None,
    };
    let text = text.ok_or_else(|| unsupported("this form of interval"))?;
    let text = match &interval.leading_field {
        Some(field) => format!("{text} {field}"),
        None => text,
    };
    let micros = parse_interval(&text.to_ascii_lowercase()).ok_or_else(|| {
        let message = format!("invalid input syntax for type interval: \"{text}\"");
        SqlError::new("22007", message)
    })?;
    Ok(Typed::plain(format!("({micros})"), PgType::Interval))
}

fn parse_interval(text: &str) -> Option<i64> {
    let mut total = 0i64;
    let mut words = text.split_whitespace();
    let mut any = false;
    while let Some(word) = words.next() {
        any = true;
        if let Some((hours, rest)) = word.split_once(':') {
            let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
            let seconds = hours.parse::<i64>().ok()? * 3600
                + minutes.parse::<i64>().ok()? * 60
                + seconds.parse::<i64>().ok()?;
            total = total.checked_add(seconds.checked_mul(1_000_000)?)?;
            continue;
        }
        let at = word
            .find(|letter: char| letter.is_ascii_alphabetic())
            .unwrap_or(word.len());
        let (number, unit) = word.split_at(at);
        let unit = if unit.is_empty() {
            words.next().unwrap_or("second")
        } else {
            unit
        };
        let micros: i64 = match unit.trim_end_matches('s') {
            "microsecond" | "u" => 1,
            "millisecond" | "m" if unit != "m" => 1000,
            "second" | "sec" | "" => 1_000_000,
            "minute" | "min" | "m" => 60_000_000,
            "hour" | "h" => 3_600_000_000,
            "day" | "d" => 86_400_000_000,
            "week" | "w" => 7 * 86_400_000_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(micros)?)?;
    }
    any.then_some(total)
}

impl Planner {
    pub(super) fn function(&mut self, function: &ast::Function) -> Result<Typed, SqlError> {
        let (schema, name) = split_name(&function.name)?;
        if schema.as_deref() == Some(SCHEMA) {
            return self.own_function(function, &name);
        }
        if !matches!(schema.as_deref(), None | Some("pg_catalog")) {
            return Err(undefined(
                &function.name,
                all().any(|known| known.name == name),
            ));
        }
        if function.over.is_some()
            || !function.within_group.is_empty()
            || function.null_treatment.is_some()
            || !matches!(function.parameters, ast::FunctionArguments::None)
        {
            return Err(unsupported(format!("this form of {name}")));
        }
        if let Some(typed) = self.aggregate(function, &name)? {
            return Ok(typed);
        }
        if function.filter.is_some() {
            let message = format!("FILTER specified, but {name} is not an aggregate function");
            return Err(SqlError::new("42809", message));
        }
        if name == "array"
            && let ast::FunctionArguments::Subquery(query) = &function.args
        {
            return self.array_of(query);
        }
        if matches!(function.args, ast::FunctionArguments::None)
            && let Some(typed) = bare_word(&name)
        {
            return Ok(typed);
        }
        let args: Vec<&ast::Expr> = arguments::of_function(function)?
            .iter()
            .map(arguments::Written::positional)
            .collect::<Result<_, _>>()?;
        if let Some(typed) = self.json_function(&name, &args)? {
            return Ok(typed);
        }
        if let Some(typed) = self.special(&name, &args)? {
            return Ok(typed);
        }
        self.builtin(function, &name, &args)
    }

    fn own_function(&mut self, function: &ast::Function, name: &str) -> Result<Typed, SqlError> {
        let args = arguments::of_function(function)?;
        if let Some((sql, known)) = self.inline_read(&function.name, &args)? {
            let Returns::Scalar(ty) = known.returns else {
                return Err(super::rows_in_select_list(known));
            };
            return Ok(Typed::plain(sql, ty));
        }
        if arguments::is_call(&function.name) {
            return Err(SqlError::unsupported(format!(
                "function {name} changes state and must be called in a statement of its own"
            ))
            .with_hint(format!("Use SELECT {SCHEMA}.{name}(...).")));
        }
        match all().find(|known| known.name == name) {
            Some(known) => Err(super::rows_in_select_list(known)),
            None => Err(undefined(&function.name, false)),
        }
    }

    /// `array(SELECT …)`
    fn array_of(&mut self, query: &ast::Query) -> Result<Typed, SqlError> {
        let sub = self.query(query)?;
        if sub.columns.len() != 1 {
            let message = "subquery must return only one column";
            return Err(SqlError::new(codes::SYNTAX_ERROR, message));
        }
        let sql = format!("(SELECT pgaf_array(c0) FROM ({}))", sub.sql);
        Ok(Typed::plain(sql, TextArray))
    }

    /// Functions whose types depend on their arguments.
    fn special(&mut self, name: &str, args: &[&ast::Expr]) -> Result<Option<Typed>, SqlError> {
        let typed = |planner: &mut Self| -> Result<Vec<Typed>, SqlError> {
            args.iter().map(|arg| planner.expr(arg)).collect()
        };
        let sqlite = match (name, args.len()) {
            ("coalesce", 1..) => "coalesce",
            ("greatest", 1..) => "max",
            ("least", 1..) => "min",
            ("nullif", 2) => "nullif",
            ("abs", 1) => {
                let value = self.expr(args[0])?;
                let value = self.coerce(value, Numeric)?;
                return Ok(Some(Typed::plain(format!("abs({})", value.sql), value.ty)));
            }
            ("concat", 1..) => {
                let mut parts = Vec::new();
                for value in typed(self)? {
                    parts.push(format!("coalesce({}, '')", self.text_of(value)?.sql));
                }
                return Ok(Some(Typed::plain(
                    format!("({})", parts.join(" || ")),
                    Text,
                )));
            }
            ("current_database", 0) => return Ok(bare_word("current_catalog")),
            ("pg_lsn_diff" | "pg_wal_lsn_diff", 2) => {
                let (a, b) = (self.expr(args[0])?, self.expr(args[1])?);
                let (a, b) = (self.coerce(a, PgType::Lsn)?, self.coerce(b, PgType::Lsn)?);
                return Ok(Some(Typed::plain(
                    format!("({} - {})", a.sql, b.sql),
                    Numeric,
                )));
            }
            _ => return Ok(None),
        };
        let values = typed(self)?;
        let (values, ty) = self.unify(values, name)?;
        let words: Vec<String> = values.into_iter().map(|value| value.sql).collect();
        // SQLite's coalesce, max and min want two arguments.
        if words.len() == 1 {
            return Ok(Some(Typed::plain(words.concat(), ty)));
        }
        let sql = match sqlite {
            // SQLite's are NULL when one is; Postgres' ignore NULL.
            "max" | "min" => format!("pgaf_{sqlite}({})", words.join(", ")),
            _ => format!("{sqlite}({})", words.join(", ")),
        };
        Ok(Some(Typed::plain(sql, ty)))
    }

    fn builtin(
        &mut self,
        function: &ast::Function,
        name: &str,
        args: &[&ast::Expr],
    ) -> Result<Typed, SqlError> {
        let mut given = Vec::new();
        for arg in args {
            given.push(self.expr(arg)?);
        }
        let known = BUILTINS
            .iter()
            .find(|known| known.name == name && known.args.len() == given.len())
            .ok_or_else(|| undefined(&function.name, all().any(|known| known.name == name)))?;
        let mut sql = known.template.to_owned();
        for (index, (typed, ty)) in given.into_iter().zip(known.args).enumerate().rev() {
            let typed = self.coerce(typed, *ty)?;
            sql = sql.replace(&format!("{{{index}}}"), &typed.sql);
        }
        Ok(Typed::plain(sql, known.returns))
    }

    /// An aggregate; `None` when the name is not that of one.
    fn aggregate(
        &mut self,
        function: &ast::Function,
        name: &str,
    ) -> Result<Option<Typed>, SqlError> {
        const AGGREGATES: &[&str] = &[
            "count",
            "sum",
            "avg",
            "min",
            "max",
            "bool_and",
            "bool_or",
            "every",
            "string_agg",
            "jsonb_agg",
            "json_agg",
            "array_agg",
        ];
        if !AGGREGATES.contains(&name) {
            return Ok(None);
        }
        let ast::FunctionArguments::List(list) = &function.args else {
            return Err(unsupported(format!("this form of {name}")));
        };
        if self.aggregate_depth > 0 {
            let message = "aggregate function calls cannot be nested";
            return Err(SqlError::new("42803", message));
        }
        self.aggregate_depth += 1;
        let typed = self.aggregate_inner(function, name, list);
        self.aggregate_depth -= 1;
        if let Some(scope) = self.scopes.last_mut() {
            scope.aggregate = true;
        }
        typed.map(Some)
    }

    fn aggregate_inner(
        &mut self,
        function: &ast::Function,
        name: &str,
        list: &ast::FunctionArgumentList,
    ) -> Result<Typed, SqlError> {
        let distinct = match list.duplicate_treatment {
            Some(ast::DuplicateTreatment::Distinct) => "DISTINCT ",
            Some(ast::DuplicateTreatment::All) | None => "",
        };
        let mut order = String::new();
        for clause in &list.clauses {
            let ast::FunctionArgumentClause::OrderBy(items) = clause else {
                return Err(unsupported(format!("{clause} in {name}")));
            };
            order = self.aggregate_order(items)?;
        }
        let filter = match &function.filter {
            Some(filter) => {
                let typed = self.expr(filter)?;
                format!(" FILTER (WHERE {})", self.condition(typed, "FILTER")?.sql)
            }
            None => String::new(),
        };
        if let [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard)] = &list.args[..]
            && name == "count"
            && distinct.is_empty()
        {
            return Ok(Typed::plain(format!("count(*){filter}"), Int8));
        }
        let written = arguments::list(&list.args)?;
        let args: Vec<&ast::Expr> = written
            .iter()
            .map(arguments::Written::positional)
            .collect::<Result<_, _>>()?;
        if let ("jsonb_agg" | "json_agg", [arg]) = (name, &args[..]) {
            let ty = if name == "jsonb_agg" {
                PgType::Jsonb
            } else {
                PgType::Json
            };
            let item = self.json_of(arg)?;
            // Over no rows the result is NULL, not an empty array.
            let sql = format!(
                "(CASE WHEN count(*){filter} > 0 THEN json_group_array({item}{order}){filter} END)"
            );
            return Ok(Typed::plain(sql, ty));
        }
        let mut values = Vec::new();
        for arg in &args {
            values.push(self.expr(arg)?);
        }
        let (sql, ty) = self.plain_aggregate(name, values, distinct, &order)?;
        Ok(Typed::plain(format!("{sql}{filter}"), ty))
    }

    fn plain_aggregate(
        &mut self,
        name: &str,
        values: Vec<Typed>,
        distinct: &str,
        order: &str,
    ) -> Result<(String, PgType), SqlError> {
        let count = values.len();
        let mut values = values.into_iter();
        let (first, second) = (values.next(), values.next());
        Ok(match (name, count, first, second) {
            ("count", 1, Some(value), _) => (format!("count({distinct}{})", value.sql), Int8),
            ("min" | "max", 1, Some(value), _) => {
                let (mut value, ty) = self.unify(vec![value], name)?;
                let sql = value.pop().map(|value| value.sql).unwrap_or_default();
                (format!("{name}({sql})"), ty)
            }
            ("bool_and" | "every", 1, Some(value), _) => {
                (format!("min({})", self.condition(value, name)?.sql), Bool)
            }
            ("bool_or", 1, Some(value), _) => {
                (format!("max({})", self.condition(value, name)?.sql), Bool)
            }
            ("sum" | "avg", 1, Some(value), _) => {
                let interval = value.ty.family() == Family::Interval;
                let value = if interval {
                    value
                } else {
                    self.coerce(value, Numeric)?
                };
                let ty = match (name, value.ty) {
                    ("sum", PgType::Int2 | Int4) => Int8,
                    (_, PgType::Float8 | PgType::Interval) => value.ty,
                    _ => Numeric,
                };
                (format!("{name}({distinct}{})", value.sql), ty)
            }
            ("string_agg", 2, Some(value), Some(glue)) => {
                let (value, glue) = (self.coerce(value, Text)?, self.coerce(glue, Text)?);
                if !distinct.is_empty() {
                    return Err(unsupported("string_agg(DISTINCT ...)"));
                }
                (
                    format!("group_concat({}, {}{order})", value.sql, glue.sql),
                    Text,
                )
            }
            _ => return Err(unsupported(format!("this form of {name}"))),
        })
    }

    fn aggregate_order(&mut self, items: &[ast::OrderByExpr]) -> Result<String, SqlError> {
        let mut parts = Vec::new();
        for item in items {
            let typed = self.expr(&item.expr)?;
            parts.push(format!("{}{}", typed.sql, super::query::direction(item)?));
        }
        Ok(format!(" ORDER BY {}", parts.join(", ")))
    }
}

fn undefined(name: &ast::ObjectName, own: bool) -> SqlError {
    let error = SqlError::new(
        codes::UNDEFINED_FUNCTION,
        format!("function {name} does not exist"),
    );
    if own {
        error.with_hint(format!("Use {SCHEMA}.{name}(...)."))
    } else {
        error.with_hint(
            "The monitor is not a Postgres server. \\df pgautofailover.* lists its functions.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::parse_interval;

    #[test]
    fn intervals_of_common_forms_are_understood() {
        assert_eq!(parse_interval("5 minutes"), Some(300_000_000));
        assert_eq!(parse_interval("1 day 01:00:00"), Some(90_000_000_000));
        assert_eq!(parse_interval("10s"), Some(10_000_000));
        assert_eq!(parse_interval("250 ms"), Some(250_000));
        assert_eq!(parse_interval("1 month"), None);
        assert_eq!(parse_interval(""), None);
    }
}
