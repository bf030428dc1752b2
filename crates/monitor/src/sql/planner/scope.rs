//! Names: which FROM items and columns an expression can see.

use sqlparser::ast;

use super::super::error::{SqlError, codes};
use super::super::types::PgType;
use super::{Planner, Typed};

/// A column of a FROM item.
#[derive(Clone, Debug)]
pub(super) struct SourceColumn {
    pub(super) name: String,
    pub(super) ty: PgType,
    pub(super) sql: String,
}

/// A FROM item.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) name: Option<String>,
    pub(super) columns: Vec<SourceColumn>,
}

/// What one SELECT can see.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) sources: Vec<Source>,
    /// Columns that USING made one, by name; the first item's counts.
    pub(super) merged: Vec<String>,
    /// SQLite's FROM clause; empty when there is none.
    pub(super) from: String,
    /// SQLite's WHERE condition.
    pub(super) condition: Option<String>,
    /// Whether an aggregate was met.
    pub(super) aggregate: bool,
    /// Columns used outside of aggregates: (SQL, name).
    pub(super) bare: Vec<(String, String)>,
}

/// The name that an identifier means.
pub(super) fn fold(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

/// Schema and name of an object.
pub(super) fn split_name(name: &ast::ObjectName) -> Result<(Option<String>, String), SqlError> {
    let mut parts = Vec::new();
    for part in &name.0 {
        match part {
            ast::ObjectNamePart::Identifier(ident) => parts.push(fold(ident)),
            ast::ObjectNamePart::Function(_) => return Err(super::unsupported(name)),
        }
    }
    let last = parts.pop().unwrap_or_default();
    let schema = parts.pop();
    // A database in front must be ours.
    match parts.pop() {
        Some(database) if database != super::super::auth::DATABASE || !parts.is_empty() => {
            Err(SqlError::unsupported(format!(
                "cross-database references are not implemented: {name}"
            )))
        }
        Some(_) | None => Ok((schema, last)),
    }
}

impl Scope {
    /// All columns of `*`: merged ones first and once.
    pub(super) fn star(&self) -> Vec<SourceColumn> {
        let find = |name: &String| {
            self.sources
                .iter()
                .flat_map(|source| &source.columns)
                .find(|c| c.name == *name)
        };
        let mut columns: Vec<SourceColumn> = self.merged.iter().filter_map(find).cloned().collect();
        for column in self.sources.iter().flat_map(|source| &source.columns) {
            if !self.merged.contains(&column.name) {
                columns.push(column.clone());
            }
        }
        columns
    }

    fn find(&self, source: Option<&str>, name: &str) -> Result<Option<SourceColumn>, SqlError> {
        let mut found = None;
        for item in &self.sources {
            if source.is_some() && item.name.as_deref() != source {
                continue;
            }
            for column in item.columns.iter().filter(|column| column.name == name) {
                let merged = source.is_none() && self.merged.iter().any(|merged| merged == name);
                if found.is_some() && !merged {
                    return Err(SqlError::new(
                        codes::AMBIGUOUS_COLUMN,
                        format!("column reference \"{name}\" is ambiguous"),
                    ));
                }
                found.get_or_insert_with(|| column.clone());
            }
        }
        Ok(found)
    }
}

impl Planner {
    /// The innermost FROM item of that name.
    pub(super) fn source(&self, name: &str) -> Option<&Source> {
        self.scopes.iter().rev().find_map(|scope| {
            scope
                .sources
                .iter()
                .find(|item| item.name.as_deref() == Some(name))
        })
    }

    /// A column by (optional) FROM item and name.
    pub(super) fn column(&mut self, source: Option<&str>, name: &str) -> Result<Typed, SqlError> {
        let innermost = self.scopes.len().saturating_sub(1);
        for at in (0..self.scopes.len()).rev() {
            if let Some(column) = self.scopes[at].find(source, name)? {
                if at == innermost && self.aggregate_depth == 0 {
                    self.scopes[at]
                        .bare
                        .push((column.sql.clone(), name.to_owned()));
                }
                return Ok(Typed::plain(column.sql, column.ty));
            }
        }
        Err(match source {
            Some(source) if self.source(source).is_none() => SqlError::new(
                codes::UNDEFINED_TABLE,
                format!("missing FROM-clause entry for table \"{source}\""),
            ),
            Some(source) => SqlError::new(
                codes::UNDEFINED_COLUMN,
                format!("column {source}.{name} does not exist"),
            ),
            None => SqlError::new(
                codes::UNDEFINED_COLUMN,
                format!("column \"{name}\" does not exist"),
            ),
        })
    }
}
