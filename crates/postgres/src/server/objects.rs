//! Roles, databases, extensions.

use crate::conninfo::Secret;

/// An extension to create in [`Objects::dbname`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Whether it is an error when the server does not have it.
    pub required: bool,
}

/// What a node needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects {
    /// `--username`: LOGIN SUPERUSER, owner of the database. `None`: the initdb role.
    pub username: Option<String>,
    /// `--dbname`.
    pub dbname: String,
    /// Password of `pgautofailover_replicator`.
    pub replication_password: Option<Secret>,
    /// Extensions.
    pub extensions: Vec<Extension>,
}
