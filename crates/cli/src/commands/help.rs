//! `help`: the whole tree.

use super::Context;
use crate::dispatch;
use crate::error::Failure;
use crate::options::parse::Parsed;
use crate::render::{help, out};
use crate::tree::PROGRAM;

/// Prints the tree to stdout.
pub(crate) fn run(_context: &Context<'_>, _parsed: &Parsed) -> Result<(), Failure> {
    out::stdout(&help::tree(PROGRAM, dispatch::root()));
    Ok(())
}
