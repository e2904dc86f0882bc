//! A database on a server before it is dumped: what is there, and what would stand in the way.

use super::catalogue::{self, identifier};
use super::connect::Session;
use super::instant::require_readable;
use super::place::PostgresDatabase;
use super::tools;
use crate::error::Result;

/// The most tables that are named.
const NAMED: usize = 5;

/// What a look at a database on a server shows.
#[derive(Debug)]
pub struct PostgresLook {
    /// The server's version.
    pub server: String,
    /// Its major version.
    pub major: u32,
    /// The bytes that the database takes there, indexes included.
    pub bytes: u64,
    /// Tables whose rows are taken.
    pub tables: u64,
    /// The role.
    pub role: String,
    /// The `pg_dump` that would be run, or why there is none.
    pub program: Result<String>,
    /// Tables that the role may not read, and SQL that lets it.
    pub unreadable: Unreadable,
    /// Tables of which it would see some rows only, and SQL that shows it all.
    pub hidden: Unreadable,
}

/// Tables that are closed to a role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// How many.
    pub tables: u64,
    /// The first of them.
    pub named: Vec<String>,
    /// What an owner or superuser runs to open them.
    pub remedy: String,
}

impl PostgresDatabase {
    /// Looks whether it could be dumped now, and says what is there: `PostgreSQL 15.18, 12 tables, 83 MB`.
    ///
    /// # Errors
    ///
    /// As for [`PostgresDatabase::instant`], but for locks.
    pub async fn look(&self) -> Result<(String, u64, u64)> {
        let session = Session::open(self).await?;
        tools::program(self, "pg_dump", session.major()).await?;
        let relations = catalogue::relations(&session).await?;
        require_readable(&session, &relations)?;
        let facts = catalogue::facts(&session).await?;
        let tables = relations.iter().filter(|relation| relation.left_out().is_none()).count();
        Ok((facts.server, tables as u64, facts.size))
    }

    /// Looks at all that may stand in the way, each on its own.
    ///
    /// # Errors
    ///
    /// What the connection fails with; the rest is in the answer.
    pub async fn examine(&self) -> Result<PostgresLook> {
        let session = Session::open(self).await?;
        let program = tools::program(self, "pg_dump", session.major()).await;
        let relations = catalogue::relations(&session).await?;
        let facts = catalogue::facts(&session).await?;
        let taken = relations.iter().filter(|relation| relation.left_out().is_none()).count();
        let closed = relations.iter().filter(|relation| !relation.readable && !relation.made_by_script);
        let closed: Vec<&catalogue::Relation> = closed.collect();
        let mut unreadable = named(closed.iter().map(|relation| relation.name.as_str()));
        let role = identifier(&facts.role);
        let schemas: std::collections::BTreeSet<String> =
            closed.iter().map(|relation| identifier(&catalogue::parts_of(&relation.name).0)).collect();
        let grants = schemas.iter().map(|schema| {
            format!(
                "GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};"
            )
        });
        unreadable.remedy = grants.collect::<Vec<_>>().join(" ");
        let what = "ask which rows the role sees";
        let sql = "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid=c.relnamespace \
                   where c.relrowsecurity and row_security_active(c.oid) and has_table_privilege(c.oid, 'select') \
                   and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1";
        let rows = session.rows(sql, what).await?;
        let mut hidden = named(rows.iter().map(|row| row.text(0)));
        hidden.remedy = format!("ALTER ROLE {role} BYPASSRLS;");
        Ok(PostgresLook {
            server: facts.server,
            major: session.major(),
            bytes: facts.size,
            tables: taken as u64,
            role: facts.role,
            program: program.map(|program| program.version),
            unreadable,
            hidden,
        })
    }
}

fn named<'a>(tables: impl Iterator<Item = &'a str>) -> Unreadable {
    let mut closed = Unreadable::default();
    for table in tables {
        closed.tables += 1;
        if closed.named.len() < NAMED {
            closed.named.push(table.to_owned());
        }
    }
    closed
}
