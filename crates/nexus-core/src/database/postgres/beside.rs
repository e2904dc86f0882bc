//! A new database beside the live one: filled, compared, and only then given its name.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::catalogue::{self, identifier, literal};
use super::connect::Session;
use super::place::PostgresDatabase;
use super::requirements::{CLIENT, in_the_way, sessions};
use super::restore::{PostgresPlan, PostgresRestored, compare};
use super::script::{self, Around};
use super::tools::{self, Access};
use crate::database::sqlite::hexadecimal;
use crate::error::{Error, Result};
use crate::local::Scratch;

/// The longest name that PostgreSQL keeps, bytes
/// (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html>, `NAMEDATALEN` less one).
const LONGEST_NAME: usize = 63;
/// Sessions of a restore at once.
const JOBS: u32 = 4;
/// How a database is marked while it is filled.
const MARK: &str = "nexus: being restored from ";
/// How often sessions are ended, or waited for, while the names are swapped.
const SWAP_TRIES: u32 = 10;
/// How long the swap may take altogether.
const SWAP_WITHIN: Duration = Duration::from_mins(1);
/// Settings whose value is a list of quoted names already.
const LISTS: [&str; 6] = [
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
    "shared_preload_libraries",
    "unix_socket_directories",
];

/// A dump on its way into a new database.
pub(super) struct Beside<'a> {
    pub(super) plan: &'a PostgresPlan,
    /// The database that is filled.
    pub(super) fresh: &'a str,
    /// What the live one will be called.
    pub(super) kept: Option<&'a str>,
}

impl Beside<'_> {
    /// Does it, and answers what is there now.
    ///
    /// # Errors
    ///
    /// Any error means that the live database is as it was, and that the new one was removed again.
    pub(super) async fn carry_out(
        &self,
        dump: &Path,
        tables: &BTreeMap<String, u64>,
        scratch: &Scratch,
    ) -> Result<PostgresRestored> {
        let session = Session::open(&self.plan.maintenance).await?;
        if require_ours(&self.plan.target, &session, self.fresh).await? {
            self.drop_fresh(&session).await?;
        }
        let restored = self.fill_and_swap(&session, dump, tables, scratch).await;
        if restored.is_err() {
            // The first error is the one to tell; a server that is gone keeps a database that the next restore removes.
            if let Ok(session) = Session::open(&self.plan.maintenance).await
                && require_ours(&self.plan.target, &session, self.fresh).await.unwrap_or(false)
            {
                let _ = self.drop_fresh(&session).await;
            }
        }
        restored
    }

    async fn drop_fresh(&self, session: &Session) -> Result<()> {
        let sql = format!("drop database if exists {} with (force)", identifier(self.fresh));
        session.run(&sql, "remove the unfinished database").await
    }

    async fn fill_and_swap(
        &self,
        session: &Session,
        dump: &Path,
        tables: &BTreeMap<String, u64>,
        scratch: &Scratch,
    ) -> Result<PostgresRestored> {
        session.run(&self.creation(), "create a database").await?;
        let mark = literal(&format!("{MARK}{}", self.plan.point));
        let comment = format!("comment on database {} is {mark}", identifier(self.fresh));
        session.run(&comment, "mark the new database").await?;
        let fresh = self.plan.target.with_name(self.fresh);
        self.fill(&fresh, dump, scratch).await?;
        let counted = compare(&fresh, tables).await?;
        let unkept = self.dress(session).await?;
        self.swap(session).await?;
        Ok(PostgresRestored { kept: self.kept.map(str::to_owned), unkept, ..counted })
    }

    fn creation(&self) -> String {
        let facts = &self.plan.facts;
        let mut sql = format!(
            "create database {} template template0 encoding {} lc_collate {} lc_ctype {}",
            identifier(self.fresh),
            literal(&facts.encoding),
            literal(&facts.collate),
            literal(&facts.ctype)
        );
        if self.plan.server >= 15 {
            sql.push_str(" locale_provider ");
            sql.push_str(&facts.locale_provider);
        }
        if let Some(locale) = &facts.locale {
            let name = if facts.locale_provider == "builtin" { "builtin_locale" } else { "icu_locale" };
            sql = format!("{sql} {name} {}", literal(locale));
        }
        if let (Some(rules), true) = (&facts.icu_rules, self.plan.server >= 16) {
            sql = format!("{sql} icu_rules {}", literal(rules));
        }
        sql
    }

    async fn fill(&self, fresh: &PostgresDatabase, dump: &Path, scratch: &Scratch) -> Result<()> {
        let what = format!("cannot restore the dump into {}", fresh.location());
        let (access, program) = (Access::prepare(fresh, scratch)?, &self.plan.program);
        if script::is_needed(program, self.plan.server) {
            let mut restore = tools::offline(program);
            restore.args(self.plan.liberties.flags()).arg(dump);
            return script::run(&access, program, restore, &Around::default(), &what).await;
        }
        let mut command = access.command(program, "");
        command.arg("--exit-on-error").arg(format!("--jobs={JOBS}")).args(self.plan.liberties.flags()).arg(dump);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|cause| Error::local(format!("cannot run `{}`", program.path.display()), cause))?;
        tools::finish(child, &what).await
    }

    /// Gives the new database what the dump does not hold: owner, settings, limits, grants, comment.
    async fn dress(&self, session: &Session) -> Result<Vec<String>> {
        let (facts, name) = (&self.plan.facts, identifier(self.fresh));
        let mut unkept = Vec::new();
        let mut statements: Vec<(String, String)> = Vec::new();
        for setting in &facts.settings {
            let who = match &setting.role {
                Some(role) => format!("role {} in database {name}", identifier(role)),
                None => format!("database {name}"),
            };
            let value = if LISTS.contains(&setting.name.as_str()) && !setting.value.is_empty() {
                setting.value.clone()
            } else {
                literal(&setting.value)
            };
            let parts: Vec<String> = setting.name.split('.').map(identifier).collect();
            let sql = format!("alter {who} set {} to {value}", parts.join("."));
            statements.push((format!("the setting {}", setting.name), sql));
        }
        if facts.connection_limit >= 0 {
            let sql = format!("alter database {name} connection limit {}", facts.connection_limit);
            statements.push(("the connection limit".to_owned(), sql));
        }
        if let (Some(grants), false) = (&facts.grants, self.plan.liberties.without_owners) {
            statements.push(("the grants".to_owned(), format!("revoke all on database {name} from public")));
            for grant in grants {
                let to = grant.to.as_deref().map_or_else(|| "public".to_owned(), identifier);
                let option = if grant.grantable { " with grant option" } else { "" };
                let sql = format!("grant {} on database {name} to {to}{option}", grant.privilege);
                statements.push((format!("the grant of {} to {to}", grant.privilege), sql));
            }
        }
        for (what, sql) in statements {
            match session.run(&sql, "set up the new database").await {
                Ok(()) => {}
                Err(error @ (Error::Denied { .. } | Error::Service { .. })) => {
                    unkept.push(format!("{what}: {}", crate::error::chain(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(unkept)
    }

    /// The owner and the comment come with the names, in the same transaction: until then the mark stays.
    fn naming(&self) -> Vec<String> {
        let name = identifier(&self.plan.target.name);
        let mut statements = vec![format!("alter database {} rename to {name}", identifier(self.fresh))];
        let comment = self.plan.facts.comment.as_deref().map_or_else(|| "null".to_owned(), literal);
        statements.push(format!("comment on database {name} is {comment}"));
        if !self.plan.liberties.without_owners {
            statements.push(format!("alter database {name} owner to {}", identifier(&self.plan.facts.owner)));
        }
        statements
    }

    /// Swaps the names in one transaction. Renaming locks the live database against new sessions, then waits for those in
    /// it: those who came last are ended meanwhile.
    async fn swap(&self, session: &Session) -> Result<()> {
        let mut statements = vec!["begin".to_owned()];
        if let Some(kept) = self.kept {
            let live = identifier(&self.plan.target.name);
            statements.push(format!("alter database {live} rename to {}", identifier(kept)));
        }
        statements.extend(self.naming());
        statements.push("commit".to_owned());
        let sql = statements.join("; ");
        let mut last = None;
        let until = Instant::now() + SWAP_WITHIN;
        for _ in 0..SWAP_TRIES {
            let swapping = session.run(&sql, "swap the names");
            let outcome = if self.plan.liberties.ends_sessions && self.kept.is_some() {
                let ending = self.end_sessions();
                tokio::select! { outcome = swapping => outcome, error = ending => Err(error) }
            } else {
                swapping.await
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(error @ Error::Busy { .. }) if Instant::now() < until => {
                    session.run("rollback", "begin again").await?;
                    last = Some(error);
                }
                Err(error) => {
                    let _ = session.run("rollback", "begin again").await;
                    return Err(error);
                }
            }
        }
        let there = sessions(session, &self.plan.target.name).await?;
        Err(if there.is_empty() {
            last.unwrap_or_else(|| Error::Busy { what: "the names could not be swapped".to_owned() })
        } else {
            in_the_way(&self.plan.target.location(), &there)
        })
    }

    /// Ends sessions in the live database again and again; ends itself only with an error.
    async fn end_sessions(&self) -> Error {
        let sql = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = {} and pid <> pg_backend_pid() and {CLIENT}",
            literal(&self.plan.target.name)
        );
        let session = match Session::open(&self.plan.maintenance).await {
            Ok(session) => session,
            Err(error) => return error,
        };
        loop {
            if let Err(error) = session.run(&sql, "end the sessions").await {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A name beside another: `clinic_restore_reimport_20251115_064233`, shortened so that no two become one.
pub(super) fn beside(name: &str, word: &str, point: &str) -> String {
    let whole = format!("{name}_{word}_{point}");
    if whole.len() <= LONGEST_NAME {
        return whole;
    }
    // The time is what people look for; the hash tells apart what was cut.
    let stamp = point.rsplit('_').take(2).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("_");
    let hash = &hexadecimal(&Sha256::digest(&whole))[..8];
    let ending = format!("_{word}_{stamp}_{hash}");
    let room = LONGEST_NAME - ending.len();
    let cut = (0..=room.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{ending}", &name[..cut])
}

/// The name that the live database gets: one that nothing has.
pub(super) async fn free_name(session: &Session, name: &str, point: &str) -> Result<String> {
    let taken = session.rows("select datname from pg_database", "list the databases").await?;
    let mut number = 1;
    loop {
        let word = if number == 1 { "before".to_owned() } else { format!("before{number}") };
        let candidate = beside(name, &word, point);
        if !taken.iter().any(|row| row.text(0) == candidate) {
            return Ok(candidate);
        }
        number += 1;
    }
}

/// What a broken-off restore left is ours to remove; anything else of that name is not.
pub(super) async fn require_ours(target: &PostgresDatabase, session: &Session, fresh: &str) -> Result<bool> {
    let sql = format!(
        "select coalesce(shobj_description(oid, 'pg_database'), '') from pg_database where datname = {}",
        literal(fresh)
    );
    let rows = session.rows(&sql, "look for an earlier try").await?;
    match rows.first() {
        None => Ok(false),
        Some(row) if row.text(0).starts_with(MARK) => Ok(true),
        // A server that died between making it and marking it: nothing is in it.
        Some(row) if row.text(0).is_empty() && is_empty(&target.with_name(fresh)).await => Ok(true),
        Some(_) => Err(Error::Exists {
            what: format!("a database {fresh:?} is at {} already, and not one that a restore left", session.place()),
        }),
    }
}

async fn is_empty(database: &PostgresDatabase) -> bool {
    let Ok(session) = Session::open(database).await else { return false };
    catalogue::relations(&session).await.is_ok_and(|relations| relations.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_another_fit_and_stay_apart() {
        let point = "reimport_20251115_064233";
        assert_eq!(beside("clinic", "before", point), "clinic_before_reimport_20251115_064233");
        let long = "ž".repeat(31);
        let longer = format!("{long}x");
        for name in [long.as_str(), longer.as_str()] {
            let beside = beside(name, "restore", point);
            assert!(beside.len() <= LONGEST_NAME && beside.contains("20251115_064233"), "{beside}");
        }
        assert_ne!(beside(&long, "restore", point), beside(&longer, "restore", point));
        let label = "x".repeat(32);
        assert!(beside("clinic", "before12", &format!("{label}_20251115_064233")).len() <= LONGEST_NAME);
    }
}
