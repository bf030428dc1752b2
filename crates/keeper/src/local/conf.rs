//! From the brain's configuration to files: settings, rules, roles.

use pgaf_fsm::citus::is_read_replica;
use pgaf_fsm::node::{Conf, Names, Replication};
use pgaf_postgres::conf::{
    self as files, CitusSettings, Defaults, Enforced, StandbyNames, Upstream,
};
use pgaf_postgres::conninfo::Conninfo;
use pgaf_postgres::hba::{REPLICATION_ROLE, Rule};
use pgaf_postgres::server::{Extension, Objects};
use pgaf_protocol::{NodeKind, Peer};
use std::time::Duration;

use super::Local;
use crate::{HbaLevel, KeeperConfig};

/// The name of the account that runs the keeper: the superuser that initdb makes.
pub(super) fn account() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()
        .map_or_else(|| "postgres".into(), |user| user.name)
}

impl Local {
    /// What is to be enforced.
    pub(super) fn enforced(&self, conf: &Conf) -> Enforced {
        let config = self.config();
        let journal = self.journal();
        let names = match &conf.names {
            Names::Nobody => StandbyNames::Nobody,
            Names::Sync(sync) => StandbyNames::from(sync),
        };
        let replication = match &conf.replication {
            Replication::Primary => files::Replication::Primary,
            Replication::Promise => files::Replication::Promise,
            Replication::Follow(peer) => files::Replication::Follow(Upstream {
                conninfo: upstream(&config, peer, None),
                slot: journal.node.standby_name(),
            }),
        };
        Enforced {
            listen_addresses: config.listen_addresses.clone(),
            port: config.port,
            socket_dir: config
                .socket_dir
                .as_ref()
                .map(|dir| dir.to_string_lossy().into_owned()),
            ssl: config.ssl.clone(),
            auth_method: config.auth_method.clone(),
            names,
            replication,
            receiver_timeout: Duration::from_millis(journal.settings.unhealthy_timeout_ms * 2),
            logical: config.kind != NodeKind::Standalone,
            citus: citus(&config),
            major: self.installation.version.major,
        }
    }

    /// What is merely suggested.
    pub(super) fn defaults(&self) -> Defaults {
        let config = self.config();
        Defaults::of_host(
            &config.pgdata,
            self.installation.version.major,
            false,
            config.ssl.is_some(),
        )
    }

    /// Our HBA rules.
    pub(super) fn rules(&self) -> Vec<Rule> {
        let config = self.config();
        if config.hba_level == HbaLevel::Skip {
            return Vec::new();
        }
        let ssl = config.ssl.is_some();
        let method = config.auth_method.as_str();
        let user = config.username.clone().unwrap_or_else(account);
        let mut rules = vec![Rule::new(ssl, &config.dbname, &user, &config.host, method)];
        if let Some(monitor) = &config.monitor {
            for endpoint in &monitor.endpoints {
                let address = endpoint
                    .hostaddr
                    .map(|a| a.to_string())
                    .or_else(|| endpoint.host.clone())
                    .filter(|host| !host.starts_with('/') && !host.starts_with('@'));
                if let Some(address) = address {
                    rules.push(Rule::monitor(ssl, &address));
                }
            }
        }
        for peer in &self.journal().peers {
            rules.extend(Rule::peer(ssl, &peer.host, &config.dbname, method));
        }
        if let Some(lan) = &config.lan {
            let mut users = vec![user];
            // Citus' own sessions come as the owner of its extension.
            if config.kind != NodeKind::Standalone && users[0] != account() {
                users.push(account());
            }
            rules.extend(Rule::network(ssl, lan, &config.dbname, &users, method));
        }
        rules
    }

    /// Roles, database and extensions.
    pub(super) fn objects(&self) -> Objects {
        let config = self.config();
        Objects {
            username: config.username.clone(),
            dbname: config.dbname.clone(),
            replication_password: config.replication_password.clone(),
            extensions: extensions(config.kind),
        }
    }

    /// A session to another node's Postgres, as the replication role.
    pub(super) fn source(&self, peer: &Peer) -> Conninfo {
        let config = self.config();
        upstream(&config, peer, Some(&config.dbname))
    }
}

/// What a node of a Citus formation is set to.
fn citus(config: &KeeperConfig) -> Option<CitusSettings> {
    if config.kind == NodeKind::Standalone {
        return None;
    }
    let mut conninfo = Conninfo {
        sslmode: Some(config.sslmode),
        ..Conninfo::default()
    };
    if let Some(ssl) = &config.ssl {
        conninfo.sslrootcert.clone_from(&ssl.ca);
        conninfo.sslcrl.clone_from(&ssl.crl);
    }
    Some(CitusSettings {
        node_conninfo: conninfo.to_keywords(),
        local_hostname: config.host.clone(),
        replica_of: Some(config.cluster.clone()).filter(|c| is_read_replica(c)),
    })
}

fn extensions(kind: NodeKind) -> Vec<Extension> {
    let statements = Extension {
        name: "pg_stat_statements".into(),
        required: false,
    };
    let citus = Extension {
        name: "citus".into(),
        required: true,
    };
    match kind {
        NodeKind::Standalone => vec![statements],
        NodeKind::Coordinator | NodeKind::Worker => vec![citus, statements],
    }
}

/// How this node reaches another's Postgres.
pub(super) fn upstream(config: &KeeperConfig, peer: &Peer, dbname: Option<&str>) -> Conninfo {
    let mut conninfo = Conninfo::single(
        peer.host.clone(),
        peer.port,
        REPLICATION_ROLE,
        dbname.unwrap_or_default(),
    );
    conninfo.dbname = dbname.map(str::to_owned);
    conninfo.password.clone_from(&config.replication_password);
    conninfo.sslmode = Some(config.sslmode);
    if let Some(ssl) = &config.ssl {
        conninfo.sslrootcert.clone_from(&ssl.ca);
        conninfo.sslcrl.clone_from(&ssl.crl);
    }
    conninfo
}
