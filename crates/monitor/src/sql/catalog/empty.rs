//! Catalogues of Postgres that have no rows here: psql asks for them.

use super::super::functions::Named;
use super::super::types::PgType::{
    Bool, Char, Float8, Int2, Int4, IntArray, Name, Oid, Text, TextArray,
};

pub(super) const EMPTY: &[(&str, &[Named])] = &[
    (
        "pg_attrdef",
        &[
            ("oid", Oid),
            ("adrelid", Oid),
            ("adnum", Int2),
            ("adbin", Text),
        ],
    ),
    (
        "pg_inherits",
        &[
            ("inhrelid", Oid),
            ("inhparent", Oid),
            ("inhseqno", Int4),
            ("inhdetachpending", Bool),
        ],
    ),
    (
        "pg_policy",
        &[
            ("polname", Name),
            ("polrelid", Oid),
            ("polcmd", Char),
            ("polpermissive", Bool),
            ("polroles", TextArray),
            ("polqual", Text),
            ("polwithcheck", Text),
        ],
    ),
    (
        "pg_statistic_ext",
        &[
            ("oid", Oid),
            ("stxrelid", Oid),
            ("stxname", Name),
            ("stxnamespace", Oid),
            ("stxowner", Oid),
            ("stxstattarget", Int4),
            ("stxkind", TextArray),
        ],
    ),
    (
        "pg_publication",
        &[("oid", Oid), ("pubname", Name), ("puballtables", Bool)],
    ),
    (
        "pg_publication_rel",
        &[
            ("oid", Oid),
            ("prpubid", Oid),
            ("prrelid", Oid),
            ("prqual", Text),
            ("prattrs", IntArray),
        ],
    ),
    (
        "pg_publication_namespace",
        &[("oid", Oid), ("pnpubid", Oid), ("pnnspid", Oid)],
    ),
    (
        "pg_index",
        &[
            ("indexrelid", Oid),
            ("indrelid", Oid),
            ("indisprimary", Bool),
            ("indisunique", Bool),
        ],
    ),
    (
        "pg_constraint",
        &[
            ("oid", Oid),
            ("conname", Name),
            ("conrelid", Oid),
            ("contype", Char),
            ("conindid", Oid),
        ],
    ),
    (
        "pg_trigger",
        &[
            ("oid", Oid),
            ("tgrelid", Oid),
            ("tgname", Name),
            ("tgisinternal", Bool),
        ],
    ),
    (
        "pg_auth_members",
        &[
            ("roleid", Oid),
            ("member", Oid),
            ("grantor", Oid),
            ("admin_option", Bool),
        ],
    ),
    (
        "pg_description",
        &[
            ("objoid", Oid),
            ("classoid", Oid),
            ("objsubid", Int4),
            ("description", Text),
        ],
    ),
    ("pg_tablespace", &[("oid", Oid), ("spcname", Name)]),
    (
        "pg_enum",
        &[
            ("oid", Oid),
            ("enumtypid", Oid),
            ("enumlabel", Name),
            ("enumsortorder", Float8),
        ],
    ),
    ("pg_range", &[("rngtypid", Oid), ("rngsubtype", Oid)]),
    (
        "pg_replication_slots",
        &[("slot_name", Name), ("slot_type", Text), ("active", Bool)],
    ),
];
