//! The extended protocol: prepared statements and portals.

use std::borrow::Cow;
use std::sync::Arc;

use super::connection::FLUSH_AT;
use super::error::{SqlError, codes};
use super::execute::{Outcome, check_failed};
use super::parse::{self, Parsed, Statement};
use super::planner::Column;
use super::reads::Rows;
use super::session::{Ending, Session};
use super::types::{PgType, Value, parse_parameter, put_value};
use super::wire::{self, Bind, Target, format_of};

/// A prepared statement.
pub(super) struct Prepared {
    parsed: Parsed,
    text_bytes: usize,
}

impl Prepared {
    fn columns(&self) -> Option<Cow<'_, [Column]>> {
        match &self.parsed.statement {
            Statement::Query(plan) => Some(Cow::Borrowed(plan.columns())),
            Statement::Show(name) => Some(Cow::Owned(vec![Column {
                name: name.clone(),
                ty: PgType::Text,
            }])),
            Statement::Empty
            | Statement::Begin
            | Statement::Commit
            | Statement::Rollback
            | Statement::Set { .. }
            | Statement::Reset
            | Statement::Listen(_)
            | Statement::Unlisten(_)
            | Statement::Discard
            | Statement::Deallocate(_)
            | Statement::SetPassword(_) => None,
        }
    }
}

/// A bound statement, and what is left of its result.
pub(super) struct Portal {
    prepared: Arc<Prepared>,
    params: Vec<Value>,
    formats: Vec<i16>,
    outcome: Option<Outcome>,
    sent: usize,
}

fn statement_missing(name: &str) -> SqlError {
    let message = if name.is_empty() {
        "unnamed prepared statement does not exist".to_owned()
    } else {
        format!("prepared statement \"{name}\" does not exist")
    };
    SqlError::new(codes::INVALID_STATEMENT_NAME, message)
}

fn portal_missing(name: &str) -> SqlError {
    let message = format!("portal \"{name}\" does not exist");
    SqlError::new(codes::INVALID_CURSOR_NAME, message)
}

/// The old command line sends some bytes of its stack as the group of `get_nodes`: an empty text
/// (2.2) or garbage (2.0).
fn is_printable(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| (b' '..=b'~').contains(byte))
}

/// The tag of a portal that is executed once more after its end.
fn end_tag(tag: &str) -> String {
    if tag.starts_with("SELECT ") {
        "SELECT 0".to_owned()
    } else {
        tag.to_owned()
    }
}

impl Session {
    pub(super) fn parse(
        &mut self,
        name: String,
        query: &str,
        types: &[u32],
    ) -> Result<(), SqlError> {
        if !name.is_empty() && self.prepared.contains_key(&name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(SqlError::new(codes::DUPLICATE_STATEMENT, message));
        }
        let declared: Vec<PgType> = types
            .iter()
            .map(|oid| PgType::of_parameter_oid(*oid))
            .collect::<Result<_, _>>()?;
        let mut statements = parse::parse(query, &declared)?;
        let mut parsed = match (statements.pop(), statements.is_empty()) {
            (None, _) => Parsed::from(Statement::Empty),
            (Some(parsed), true) => parsed,
            (Some(_), false) => {
                return Err(SqlError::new(
                    codes::SYNTAX_ERROR,
                    "cannot insert multiple commands into a prepared statement",
                ));
            }
        };
        check_failed(self.transaction, &parsed.statement)?;
        // Declared parameters that the text does not use still count.
        for ty in declared.iter().skip(parsed.params.types.len()) {
            parsed.params.types.push(*ty);
        }
        parsed
            .params
            .garbage_is_null
            .resize(parsed.params.types.len(), false);
        let (limits, text_bytes) = (&self.shared.limits, query.len());
        let used: usize = self.prepared.values().map(|other| other.text_bytes).sum();
        if self.prepared.len() > limits.named_statements
            || used.saturating_add(text_bytes) > limits.prepared_bytes
        {
            let message = "too many prepared statements";
            return Err(SqlError::new(codes::LIMIT_EXCEEDED, message));
        }
        let prepared = Prepared { parsed, text_bytes };
        self.prepared.insert(name, Arc::new(prepared));
        wire::put_empty(&mut self.connection.output, b'1');
        Ok(())
    }

    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), SqlError> {
        let prepared = self
            .prepared
            .get(&bind.statement)
            .cloned()
            .ok_or_else(|| statement_missing(&bind.statement))?;
        let types = &prepared.parsed.params.types;
        if bind.parameters.len() != types.len() {
            return Err(SqlError::new(
                codes::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{}\" \
                     requires {}",
                    bind.parameters.len(),
                    bind.statement,
                    types.len()
                ),
            ));
        }
        let many = |formats: &[i16], count: usize| formats.len() > 1 && formats.len() != count;
        let columns = prepared.columns().map_or(0, |columns| columns.len());
        if many(&bind.parameter_formats, types.len()) || many(&bind.result_formats, columns) {
            let message = "bind message has a wrong number of format codes";
            return Err(SqlError::new(codes::PROTOCOL_VIOLATION, message));
        }
        let mut formats = bind.parameter_formats.iter().chain(&bind.result_formats);
        if let Some(format) = formats.find(|format| !matches!(**format, 0 | 1)) {
            let message = format!("unsupported format code: {format}");
            return Err(SqlError::new(codes::INVALID_PARAMETER, message));
        }
        let mut params = Vec::with_capacity(types.len());
        for (index, (bytes, ty)) in bind.parameters.iter().zip(types).enumerate() {
            let lenient = prepared.parsed.params.garbage_is_null[index];
            params.push(match bytes {
                None => Value::Null,
                Some(bytes) if lenient && !is_printable(bytes) => Value::Null,
                Some(bytes) => {
                    parse_parameter(bytes, *ty, format_of(&bind.parameter_formats, index) == 1)?
                }
            });
        }
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            let message = format!("cursor \"{}\" already exists", bind.portal);
            return Err(SqlError::new("42P03", message));
        }
        if self.portals.len() > self.shared.limits.named_portals {
            return Err(SqlError::new(codes::LIMIT_EXCEEDED, "too many portals"));
        }
        let portal = Portal {
            prepared,
            params,
            formats: bind.result_formats,
            outcome: None,
            sent: 0,
        };
        self.portals.insert(bind.portal, portal);
        wire::put_empty(&mut self.connection.output, b'2');
        Ok(())
    }

    pub(super) fn describe(&mut self, target: &Target) -> Result<(), SqlError> {
        let out = &mut self.connection.output;
        let (columns, formats) = match target {
            Target::Statement(name) => {
                let prepared = self
                    .prepared
                    .get(name)
                    .ok_or_else(|| statement_missing(name))?;
                let oids: Vec<u32> = prepared
                    .parsed
                    .params
                    .types
                    .iter()
                    .map(|ty| ty.oid())
                    .collect();
                wire::put_parameter_description(out, &oids);
                (prepared.columns(), &[][..])
            }
            Target::Portal(name) => {
                let portal = self.portals.get(name).ok_or_else(|| portal_missing(name))?;
                (portal.prepared.columns(), portal.formats.as_slice())
            }
        };
        match columns {
            Some(columns) => wire::put_row_description(out, &columns, formats),
            None => wire::put_empty(out, b'n'),
        }
        Ok(())
    }

    pub(super) fn close(&mut self, target: &Target) -> Result<(), SqlError> {
        match target {
            Target::Statement(name) => {
                self.prepared.remove(name);
            }
            Target::Portal(name) => {
                self.portals.remove(name);
            }
        }
        wire::put_empty(&mut self.connection.output, b'3');
        Ok(())
    }

    pub(super) async fn execute_portal(
        &mut self,
        name: &str,
        max_rows: u32,
    ) -> Result<Result<(), SqlError>, Ending> {
        let Some(mut portal) = self.portals.remove(name) else {
            return Ok(Err(portal_missing(name)));
        };
        let mut outcome = match portal.outcome.take() {
            Some(outcome) => outcome,
            None => {
                let prepared = Arc::clone(&portal.prepared);
                match self.run_statement(&prepared.parsed, &portal.params).await? {
                    Ok(outcome) => {
                        self.put_notices(&outcome);
                        outcome
                    }
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        let rest = outcome.rows.len() - portal.sent;
        let take = match usize::try_from(max_rows) {
            Ok(0) | Err(_) => rest,
            Ok(limit) => limit.min(rest),
        };
        if let Some(columns) = &outcome.columns {
            let rows = &outcome.rows[portal.sent..portal.sent + take];
            self.put_rows(rows, columns, &portal.formats).await?;
        }
        portal.sent += take;
        if take < rest {
            wire::put_empty(&mut self.connection.output, b's');
        } else {
            self.put_tag(&outcome);
            // Asked again, a finished portal has no rows.
            outcome.rows = Rows::new();
            portal.sent = 0;
            outcome.tag = end_tag(&outcome.tag);
        }
        portal.outcome = Some(outcome);
        self.portals.insert(name.to_owned(), portal);
        Ok(Ok(()))
    }

    /// Appends rows, sending what has grown large.
    pub(super) async fn put_rows(
        &mut self,
        rows: &[<Rows as IntoIterator>::Item],
        columns: &[Column],
        formats: &[i16],
    ) -> Result<(), Ending> {
        for row in rows {
            let out = &mut self.connection.output;
            wire::put(out, b'D', |out| {
                use bytes::BufMut as _;
                out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
                for (index, (value, column)) in row.iter().zip(columns).enumerate() {
                    put_value(out, value, column.ty, format_of(formats, index) == 1);
                }
            });
            if out.len() >= FLUSH_AT {
                self.connection.flush().await?;
            }
        }
        Ok(())
    }
}
