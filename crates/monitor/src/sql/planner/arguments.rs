//! Calls of the API's functions: finding the overload, and bringing arguments to its types.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's enums are large; the rest is refused"
)]

use sqlparser::ast;

use super::super::catalog::SCHEMA;
use super::super::error::{SqlError, codes};
use super::super::functions::{Arg, Body, Default, Function, ReadFn, all};
use super::super::types::{Family, PgType, Value, parse_text};
use super::scope::{fold, split_name};
use super::{Const, FunctionUse, Kind, Planner, Typed, unsupported};

/// An argument as written.
pub(super) struct Written<'a> {
    name: Option<String>,
    expr: &'a ast::Expr,
}

impl<'a> Written<'a> {
    /// The argument, when it is given by position.
    pub(super) fn positional(&self) -> Result<&'a ast::Expr, SqlError> {
        match &self.name {
            None => Ok(self.expr),
            Some(name) => Err(unsupported(format!("named argument {name} here"))),
        }
    }
}

/// The plain arguments of a list.
pub(super) fn list(args: &[ast::FunctionArg]) -> Result<Vec<Written<'_>>, SqlError> {
    args.iter().map(plain).collect()
}

fn plain(arg: &ast::FunctionArg) -> Result<Written<'_>, SqlError> {
    match arg {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => {
            Ok(Written { name: None, expr })
        }
        ast::FunctionArg::Named {
            name,
            arg: ast::FunctionArgExpr::Expr(expr),
            operator: ast::FunctionArgOperator::RightArrow | ast::FunctionArgOperator::Assignment,
        } => Ok(Written {
            name: Some(fold(name)),
            expr,
        }),
        // The dialect reads `count => 1` with an expression as the name.
        ast::FunctionArg::ExprNamed {
            name: ast::Expr::Identifier(name),
            arg: ast::FunctionArgExpr::Expr(expr),
            operator: ast::FunctionArgOperator::RightArrow | ast::FunctionArgOperator::Assignment,
        } => Ok(Written {
            name: Some(fold(name)),
            expr,
        }),
        other => Err(unsupported(format!("argument {other}"))),
    }
}

/// The arguments of a function in an expression.
pub(super) fn of_function(function: &ast::Function) -> Result<Vec<Written<'_>>, SqlError> {
    let plain = function.filter.is_none()
        && function.over.is_none()
        && function.within_group.is_empty()
        && function.null_treatment.is_none()
        && matches!(function.parameters, ast::FunctionArguments::None);
    match &function.args {
        ast::FunctionArguments::List(args)
            if plain && args.clauses.is_empty() && args.duplicate_treatment.is_none() =>
        {
            list(&args.args)
        }
        _ => Err(unsupported(format!(
            "this form of calling {}",
            function.name
        ))),
    }
}

/// The functions of that name; empty when the name is not in our schema.
fn overloads(name: &ast::ObjectName) -> Vec<&'static Function> {
    match split_name(name) {
        Ok((Some(schema), name)) if schema == SCHEMA => {
            all().filter(|function| function.name == name).collect()
        }
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// Whether the name is that of a function that changes state.
pub(super) fn is_call(name: &ast::ObjectName) -> bool {
    overloads(name)
        .iter()
        .any(|function| matches!(function.body, Body::Call(_)))
}

/// How well an argument fits: nothing when it does not.
fn fit(given: PgType, wanted: PgType) -> Option<u32> {
    match (given.family(), wanted.family()) {
        (Family::Unknown, Family::Text) => Some(1),
        (Family::Unknown, _) => Some(0),
        (a, b) if a == b => Some(2),
        _ => None,
    }
}

/// For each of the function's arguments, which written one it takes; and how well it fits.
fn bind(
    function: &'static Function,
    written: &[Written<'_>],
    types: &[PgType],
) -> Option<(Vec<Option<usize>>, u32)> {
    let mut taken = vec![None; function.args.len()];
    let mut score = 0;
    for (index, argument) in written.iter().enumerate() {
        let at = match &argument.name {
            None if written[..index]
                .iter()
                .all(|earlier| earlier.name.is_none()) =>
            {
                index
            }
            None => return None,
            Some(name) => function.args.iter().position(|arg| arg.name == name)?,
        };
        let slot = taken.get_mut(at)?;
        if slot.is_some() {
            return None;
        }
        score += fit(types[index], function.args[at].ty)?;
        *slot = Some(index);
    }
    let complete = function
        .args
        .iter()
        .zip(&taken)
        .all(|(arg, taken)| taken.is_some() || arg.default != Default::Required);
    complete.then_some((taken, score))
}

fn resolve(
    name: &ast::ObjectName,
    written: &[Written<'_>],
    types: &[PgType],
) -> Result<(&'static Function, Vec<Option<usize>>), SqlError> {
    let signature = || {
        let words: Vec<&str> = types.iter().map(|ty| ty.name()).collect();
        format!("{name}({})", words.join(", "))
    };
    let mut candidates: Vec<_> = overloads(name)
        .into_iter()
        .filter_map(|function| {
            bind(function, written, types).map(|(taken, score)| (score, function, taken))
        })
        .collect();
    let best = candidates
        .iter()
        .map(|(score, ..)| *score)
        .max()
        .unwrap_or(0);
    candidates.retain(|(score, ..)| *score == best);
    match (candidates.pop(), candidates.is_empty()) {
        (Some((_, function, taken)), true) => Ok((function, taken)),
        (Some(_), false) => Err(SqlError::new(
            codes::AMBIGUOUS_FUNCTION,
            format!("function {} is not unique", signature()),
        )
        .with_hint("Add explicit type casts, or name the arguments.")),
        (None, _) => {
            let error = SqlError::new(
                codes::UNDEFINED_FUNCTION,
                format!("function {} does not exist", signature()),
            );
            Err(match overloads(name).is_empty() {
                true => {
                    error.with_hint("\\df pgautofailover.* lists the functions of the monitor.")
                }
                false => error.with_hint(
                    "No function matches the given name and argument types. You might need to \
                     add explicit type casts.",
                ),
            })
        }
    }
}

fn default_value(arg: &Arg) -> Value {
    match arg.default {
        Default::Required | Default::Null => Value::Null,
        Default::Int(number) => Value::Int(number),
        Default::Bool(value) => Value::from(value),
        Default::Text(text) => Value::from(text),
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Real(number) => format!("{number:?}"),
        Value::Text(text) => super::expr::quote(text),
    }
}

/// A constant as written: its value or parameter, before its type is known.
enum Raw {
    Value(Value, PgType),
    Text(String),
    Null,
    Param(usize),
}

impl Planner {
    /// A call whose arguments are literals and parameters.
    pub(super) fn constant_call(
        &mut self,
        name: &ast::ObjectName,
        written: &[Written<'_>],
    ) -> Result<FunctionUse, SqlError> {
        let raw: Vec<Raw> = written
            .iter()
            .map(|arg| self.raw(arg.expr))
            .collect::<Result<_, _>>()?;
        let types: Vec<PgType> = raw.iter().map(|raw| self.raw_type(raw)).collect();
        let (function, taken) = resolve(name, written, &types)?;
        let mut args = Vec::with_capacity(taken.len());
        for (arg, taken) in function.args.iter().zip(taken) {
            args.push(match taken {
                None => Const::Value(default_value(arg)),
                Some(index) => self.constant(&raw[index], arg)?,
            });
        }
        Ok(FunctionUse { function, args })
    }

    /// A call whose arguments may be columns: the arguments in the function's order and types.
    pub(super) fn row_arguments(
        &mut self,
        name: &ast::ObjectName,
        written: &[Written<'_>],
    ) -> Result<(&'static Function, Vec<Typed>), SqlError> {
        let mut given = Vec::new();
        for argument in written {
            given.push(self.expr(argument.expr)?);
        }
        let types: Vec<PgType> = given.iter().map(|typed| typed.ty).collect();
        let (function, taken) = resolve(name, written, &types)?;
        let mut args = Vec::with_capacity(taken.len());
        for (arg, taken) in function.args.iter().zip(taken) {
            args.push(match taken {
                None => Typed::plain(literal(&default_value(arg)), arg.ty),
                Some(index) => self.coerce(given[index].clone(), arg.ty)?,
            });
        }
        Ok((function, args))
    }

    /// A read-only function that returns one value, as an expression of SQLite; `None` for others.
    pub(super) fn inline_read(
        &mut self,
        name: &ast::ObjectName,
        written: &[Written<'_>],
    ) -> Result<Option<(String, &'static Function)>, SqlError> {
        let sqlite = match overloads(name).first().map(|function| function.body) {
            Some(Body::Read(ReadFn::FormationUri)) => "pgaf_formation_uri",
            Some(Body::Read(ReadFn::SynchronousStandbyNames)) => "pgaf_standby_names",
            Some(Body::Read(_) | Body::Call(_)) | None => return Ok(None),
        };
        let (function, args) = self.row_arguments(name, written)?;
        let args: Vec<String> = args.into_iter().map(|typed| typed.sql).collect();
        Ok(Some((format!("{sqlite}({})", args.join(", ")), function)))
    }

    fn raw_type(&self, raw: &Raw) -> PgType {
        match raw {
            Raw::Value(_, ty) => *ty,
            Raw::Param(index) => self.params.types[*index],
            Raw::Text(_) | Raw::Null => PgType::Unknown,
        }
    }

    fn raw(&mut self, expr: &ast::Expr) -> Result<Raw, SqlError> {
        let refused = || {
            SqlError::unsupported(format!(
                "argument {expr} is neither a literal nor a parameter"
            ))
        };
        match expr {
            ast::Expr::Nested(inner) => self.nested(|planner| planner.raw(inner)),
            ast::Expr::Cast {
                expr,
                data_type,
                format: None,
                ..
            } => {
                let ty = super::casts::cast_type(data_type)?;
                match self.nested(|planner| planner.raw(expr))? {
                    Raw::Null => Ok(Raw::Value(Value::Null, ty)),
                    Raw::Text(text) => Ok(Raw::Value(parse_text(&text, ty)?, ty)),
                    Raw::Value(value, from) if from.family() == ty.family() => {
                        Ok(Raw::Value(value, ty))
                    }
                    Raw::Value(..) => Err(refused()),
                    Raw::Param(index) => {
                        let declared = self.params.types[index];
                        if declared == PgType::Unknown {
                            self.params.types[index] = ty;
                        } else if declared.family() != ty.family() {
                            return Err(refused());
                        }
                        Ok(Raw::Param(index))
                    }
                }
            }
            ast::Expr::Value(_) | ast::Expr::UnaryOp { .. } => {
                let typed = self.expr(expr)?;
                match typed.kind {
                    Kind::Literal(text) => Ok(Raw::Text(text)),
                    Kind::Null => Ok(Raw::Null),
                    Kind::Param(index) => Ok(Raw::Param(index)),
                    Kind::Plain => {
                        let number = typed.sql.replace(['(', ')', ' '], "");
                        let value = match number.parse::<i64>() {
                            Ok(number) => Value::Int(number),
                            Err(_) => Value::Real(number.parse().map_err(|_| refused())?),
                        };
                        Ok(Raw::Value(value, typed.ty))
                    }
                }
            }
            _ => Err(refused()),
        }
    }

    fn constant(&mut self, raw: &Raw, arg: &Arg) -> Result<Const, SqlError> {
        Ok(match raw {
            Raw::Null => Const::Value(Value::Null),
            Raw::Text(text) if arg.garbage_is_null && text.is_empty() => Const::Value(Value::Null),
            Raw::Text(text) => Const::Value(parse_text(text, arg.ty)?),
            Raw::Value(value, ty) => Const::Value(in_range(value.clone(), *ty, arg.ty)?),
            Raw::Param(index) => {
                if self.params.types[*index] == PgType::Unknown {
                    self.params.types[*index] = arg.ty;
                }
                if arg.garbage_is_null {
                    self.params.garbage_is_null[*index] = true;
                }
                Const::Param(*index, arg.ty)
            }
        })
    }
}

/// Checks a value against a narrower type of its family.
pub(in crate::sql) fn in_range(value: Value, from: PgType, to: PgType) -> Result<Value, SqlError> {
    if from == to {
        return Ok(value);
    }
    match &value {
        Value::Int(number) if to.family() == Family::Number => parse_text(&number.to_string(), to),
        Value::Text(text) => parse_text(text, to),
        Value::Real(number) if to.family() == Family::Number => parse_text(&number.to_string(), to),
        Value::Int(_) | Value::Real(_) | Value::Null => Ok(value),
    }
}
