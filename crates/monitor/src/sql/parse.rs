//! From the client's text to statements. What is not understood completely is refused here or in
//! the planner; nothing of it is ever logged, for it may hold a password.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's enums are large; the rest is refused"
)]

use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::auth::ROLE;
use super::error::{SqlError, codes};
use super::notify::Channel;
use super::planner::{self, Params, QueryPlan};
use super::types::PgType;

/// Longest statement text in bytes. Parameters do not count. Chosen: ten times psql's longest.
const MAX_TEXT: usize = 64 * 1024;
/// Most tokens of a statement: they bound the depth of the tree, which the parser's own recursion
/// limit does not (`1+1+1+…`). Chosen, and tested to fit a thread's stack.
const MAX_TOKENS: usize = 4000;
/// Nesting that the parser follows.
const MAX_RECURSION: usize = 50;

/// What SHOW ALL means.
const SHOW_ALL: &str = "SELECT name, setting, short_desc AS description \
                        FROM pg_catalog.pg_settings ORDER BY name";

/// A password in a statement. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Password(pub(super) String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(<redacted>)")
    }
}

/// A statement.
#[derive(Clone, Debug)]
pub(super) enum Statement {
    Empty,
    Begin,
    Commit,
    Rollback,
    /// SET of a setting that makes no difference here.
    Set {
        name: String,
        value: String,
    },
    Reset,
    Show(String),
    Listen(Channel),
    /// `None`: all.
    Unlisten(Option<Channel>),
    /// DISCARD ALL
    Discard,
    /// `None`: all.
    Deallocate(Option<String>),
    /// `None`: the password is removed.
    SetPassword(Option<Password>),
    Query(Box<QueryPlan>),
}

/// A statement with its parameters.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub(super) statement: Statement,
    pub(super) params: Params,
}

impl From<Statement> for Parsed {
    fn from(statement: Statement) -> Self {
        Parsed {
            statement,
            params: Params::default(),
        }
    }
}

/// The error for everything that would change a table.
pub(super) fn read_only(what: &str) -> SqlError {
    SqlError::new(
        codes::INSUFFICIENT_PRIVILEGE,
        format!("permission denied: {what} is not possible on the monitor"),
    )
    .with_hint(
        "The functions of schema pgautofailover are the only way to change the monitor's state.",
    )
}

/// Parses a text of any number of statements. `declared` are the parameter types from Parse.
///
/// # Errors
/// 42601 for what is not SQL, and the planner's.
pub(super) fn parse(text: &str, declared: &[PgType]) -> Result<Vec<Parsed>, SqlError> {
    if text.len() > MAX_TEXT {
        return Err(SqlError::new(
            codes::LIMIT_EXCEEDED,
            "the statement is too long",
        ));
    }
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, text)
        .tokenize_with_location()
        .map_err(|error| SqlError::new(codes::SYNTAX_ERROR, error.message))?;
    if tokens.len() > MAX_TOKENS {
        return Err(SqlError::new("54001", "the statement is too complex"));
    }
    let mut parsed = Vec::new();
    for tokens in split(tokens) {
        parsed.push(one(&dialect, tokens, declared)?);
    }
    Ok(parsed)
}

/// Cuts the tokens at semicolons.
fn split(tokens: Vec<TokenWithSpan>) -> Vec<Vec<TokenWithSpan>> {
    let mut statements = Vec::new();
    let mut current = Vec::new();
    for token in tokens {
        match token.token {
            Token::SemiColon => statements.push(std::mem::take(&mut current)),
            Token::Whitespace(_) | Token::EOF => {}
            _ => current.push(token),
        }
    }
    statements.push(current);
    statements.retain(|statement| !statement.is_empty());
    statements
}

fn keyword(token: &Token) -> Option<Keyword> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}

fn word(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) if word.quote_style.is_some() => Some(word.value.clone()),
        Token::Word(word) => Some(word.value.to_ascii_lowercase()),
        _ => None,
    }
}

fn one(
    dialect: &PostgreSqlDialect,
    tokens: Vec<TokenWithSpan>,
    declared: &[PgType],
) -> Result<Parsed, SqlError> {
    let plain: Vec<&Token> = tokens.iter().map(|token| &token.token).collect();
    if let [show, all] = plain[..]
        && keyword(show) == Some(Keyword::SHOW)
        && keyword(all) == Some(Keyword::ALL)
    {
        let mut shown = parse(SHOW_ALL, &[])?;
        return Ok(shown.pop().unwrap_or_else(|| Statement::Empty.into()));
    }
    if let Some(statement) = by_tokens(&plain)? {
        return Ok(statement.into());
    }
    let tokens = table_as_select(tokens);
    let mut parser = Parser::new(dialect)
        .with_recursion_limit(MAX_RECURSION)
        .with_tokens_with_locations(tokens);
    let statement = parser.parse_statement().map_err(syntax_error)?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let message = format!("syntax error at or near \"{}\"", rest.token);
        return Err(SqlError::new(codes::SYNTAX_ERROR, message));
    }
    if let ast::Statement::Query(query) = &statement {
        let (plan, params) = planner::plan(query, declared)?;
        return Ok(Parsed {
            statement: Statement::Query(Box::new(plan)),
            params,
        });
    }
    other(statement).map(Parsed::from)
}

/// `TABLE name` is `SELECT * FROM name`; the parser knows only the longer form.
fn table_as_select(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let Some(first) = tokens.first() else {
        return tokens;
    };
    if keyword(&first.token) == Some(Keyword::TABLE) {
        let span = first.span;
        let words = [
            Token::make_keyword("SELECT"),
            Token::Mul,
            Token::make_keyword("FROM"),
        ];
        let words = words.map(|token| TokenWithSpan { token, span });
        tokens.splice(..1, words);
    }
    tokens
}

fn syntax_error(error: sqlparser::parser::ParserError) -> SqlError {
    use sqlparser::parser::ParserError;
    match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            SqlError::new(codes::SYNTAX_ERROR, format!("syntax error: {message}"))
        }
        ParserError::RecursionLimitExceeded => {
            SqlError::new("54001", "statement is nested too deeply")
        }
    }
}

/// Statements whose shape is simple enough to be read from the tokens.
fn by_tokens(tokens: &[&Token]) -> Result<Option<Statement>, SqlError> {
    let first = tokens.first().and_then(|token| keyword(token));
    Ok(Some(match (first, tokens) {
        (Some(Keyword::ALTER), [_, kind, ..])
            if matches!(keyword(kind), Some(Keyword::USER | Keyword::ROLE)) =>
        {
            alter_user(&tokens[2..])?
        }
        (Some(Keyword::ALTER), _) => {
            return Err(read_only("ALTER").with_hint(
                "Settings of the monitor are changed by pg_autoctl config set, or by \
                 SELECT pgautofailover.set_setting(name, value).",
            ));
        }
        (Some(Keyword::LISTEN), [_, name]) => match word(name) {
            Some(name) => Statement::Listen(channel(&name)?),
            None => return Ok(None),
        },
        (Some(Keyword::UNLISTEN), [_, Token::Mul]) => Statement::Unlisten(None),
        (Some(Keyword::UNLISTEN), [_, name]) => match word(name) {
            Some(name) => Statement::Unlisten(Some(channel(&name)?)),
            None => return Ok(None),
        },
        (Some(Keyword::DISCARD), [_, all]) if keyword(all) == Some(Keyword::ALL) => {
            Statement::Discard
        }
        (Some(Keyword::RESET), [_, ..]) => Statement::Reset,
        (Some(Keyword::END), [_]) => Statement::Commit,
        (Some(Keyword::ABORT), [_]) => Statement::Rollback,
        (Some(Keyword::SHOW), [_, rest @ ..]) if !rest.is_empty() => Statement::Show(show(rest)?),
        _ => return Ok(None),
    }))
}

fn channel(name: &str) -> Result<Channel, SqlError> {
    match name {
        "state" => Ok(Channel::State),
        "log" => Ok(Channel::Log),
        other => Err(
            SqlError::unsupported(format!("there is no channel \"{other}\""))
                .with_hint("The monitor's channels are state and log."),
        ),
    }
}

fn show(tokens: &[&Token]) -> Result<String, SqlError> {
    let mut name = String::new();
    for token in tokens {
        match token {
            Token::Period => name.push('.'),
            token => match word(token) {
                Some(part) if name.is_empty() || name.ends_with('.') => name.push_str(&part),
                Some(part) => {
                    name.push('_');
                    name.push_str(&part);
                }
                None => return Err(SqlError::new(codes::SYNTAX_ERROR, "syntax error in SHOW")),
            },
        }
    }
    Ok(match name.as_str() {
        // SHOW TRANSACTION ISOLATION LEVEL, SHOW TIME ZONE
        "transaction_isolation_level" => "transaction_isolation".to_owned(),
        "time_zone" => "timezone".to_owned(),
        _ => name,
    })
}

/// `autoctl_node [WITH] [ENCRYPTED] PASSWORD { 'text' | NULL }`, and nothing else.
fn alter_user(tokens: &[&Token]) -> Result<Statement, SqlError> {
    let refused = || {
        read_only("ALTER USER").with_hint(format!(
            "Only ALTER USER {ROLE} PASSWORD '...' is possible on the monitor."
        ))
    };
    let [role, rest @ ..] = tokens else {
        return Err(refused());
    };
    if word(role).as_deref() != Some(ROLE) {
        return Err(refused());
    }
    let skip = |rest: &'_ [&'_ Token], word: Keyword| -> usize {
        usize::from(rest.first().and_then(|token| keyword(token)) == Some(word))
    };
    let rest = &rest[skip(rest, Keyword::WITH)..];
    let encrypted = rest.first().and_then(|token| word(token)).as_deref() == Some("encrypted");
    let rest = &rest[usize::from(encrypted)..];
    match rest {
        [password, value] if word(password).as_deref() == Some("password") => match value {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => {
                Ok(Statement::SetPassword(Some(Password(text.clone()))))
            }
            token if keyword(token) == Some(Keyword::NULL) => Ok(Statement::SetPassword(None)),
            _ => Err(refused()),
        },
        _ => Err(refused()),
    }
}

fn other(statement: ast::Statement) -> Result<Statement, SqlError> {
    Ok(match statement {
        ast::Statement::StartTransaction { .. } => Statement::Begin,
        ast::Statement::Commit { chain: false, .. } => Statement::Commit,
        ast::Statement::Rollback {
            chain: false,
            savepoint: None,
        } => Statement::Rollback,
        ast::Statement::Set(set) => return set_statement(set),
        ast::Statement::Deallocate { name, .. } => {
            let name = match name.quote_style {
                Some(_) => name.value,
                None => name.value.to_ascii_lowercase(),
            };
            Statement::Deallocate((name != "all").then_some(name))
        }
        ast::Statement::NOTIFY { .. } => return Err(read_only("NOTIFY")),
        ast::Statement::Insert(_)
        | ast::Statement::Update(_)
        | ast::Statement::Delete(_)
        | ast::Statement::Truncate(_)
        | ast::Statement::Merge(_)
        | ast::Statement::Copy { .. } => return Err(read_only("changing a table")),
        ast::Statement::CreateTable(_)
        | ast::Statement::CreateView(_)
        | ast::Statement::CreateIndex(_)
        | ast::Statement::CreateFunction(_)
        | ast::Statement::CreateExtension(_)
        | ast::Statement::CreateRole(_)
        | ast::Statement::CreateUser(_)
        | ast::Statement::CreateSchema { .. }
        | ast::Statement::CreateDatabase { .. }
        | ast::Statement::Drop { .. } => return Err(read_only("CREATE or DROP")),
        _ => {
            return Err(
                SqlError::unsupported("this statement is not supported by the monitor").with_hint(
                    "The monitor answers SELECTs over schema pgautofailover, its functions, \
                     LISTEN, SET, SHOW and transactions.",
                ),
            );
        }
    })
}

fn set_statement(set: ast::Set) -> Result<Statement, SqlError> {
    let (name, value) = match set {
        ast::Set::SingleAssignment {
            variable, values, ..
        } => {
            let values: Vec<String> = values.iter().map(bare_value).collect();
            (variable.to_string().to_ascii_lowercase(), values.join(", "))
        }
        ast::Set::SetTimeZone { value, .. } => ("timezone".to_owned(), bare_value(&value)),
        ast::Set::SetNames { charset_name, .. } => {
            ("client_encoding".to_owned(), charset_name.value)
        }
        ast::Set::SetTransaction { .. } => ("transaction_isolation".to_owned(), String::new()),
        _ => return Err(SqlError::unsupported("this form of SET is not supported")),
    };
    if name.starts_with("pgautofailover.") {
        return Err(read_only("SET of a monitor's setting").with_hint(
            "Use pg_autoctl config set, or SELECT pgautofailover.set_setting(name, value).",
        ));
    }
    check_harmless(&name, &value)?;
    Ok(Statement::Set { name, value })
}

fn bare_value(expr: &ast::Expr) -> String {
    match expr {
        ast::Expr::Value(value) => value
            .value
            .clone()
            .into_string()
            .unwrap_or_else(|| value.to_string()),
        other => other.to_string(),
    }
}

/// Accepts settings that change nothing that the monitor sends.
fn check_harmless(name: &str, value: &str) -> Result<(), SqlError> {
    const HARMLESS: &[&str] = &[
        "application_name",
        "bytea_output",
        "client_min_messages",
        "datestyle",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "extra_float_digits",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "intervalstyle",
        "jit",
        "lock_timeout",
        "search_path",
        "session_replication_role",
        "statement_timeout",
        "synchronous_commit",
        "timezone",
        "transaction_isolation",
        "transaction_read_only",
        "xmloption",
    ];
    let word = value.to_ascii_lowercase().replace(['-', '_'], "");
    match name {
        "client_encoding" | "names" if matches!(word.as_str(), "utf8" | "unicode" | "default") => {
            Ok(())
        }
        "client_encoding" | "names" => Err(SqlError::unsupported(format!(
            "conversion between {value} and UTF8 is not supported"
        ))),
        "standard_conforming_strings" if matches!(word.as_str(), "on" | "true") => Ok(()),
        name if HARMLESS.contains(&name) => Ok(()),
        name => Err(SqlError::new(
            codes::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{name}\""),
        )),
    }
}
