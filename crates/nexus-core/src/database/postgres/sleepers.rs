//! What must sleep while tables are loaded, and how it wakes: foreign keys, triggers, rules.

use std::collections::BTreeSet;

use super::catalogue::literal;
use super::connect::Session;
use crate::error::{DatabaseWords, Error, Result};

/// The major version from which triggers of partitions can be put to sleep one by one.
const FOLLOW_BY_THEMSELVES: u32 = 15;
/// How many names a message lists.
const NAMED: usize = 10;

/// Statements that put everything to sleep, and those that wake it, each in its order.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    sleep: Vec<String>,
    wake: Vec<String>,
}

impl Sleepers {
    /// Finds what would act on rows of these tables, or of their partitions.
    pub(super) async fn find(session: &Session, tables: &BTreeSet<u32>) -> Result<Self> {
        let mut found = Self::default();
        let loaded = loaded(tables);
        require_sleep(session, &loaded).await?;
        // Those of partitions come and go with their parent's.
        let keys = format!(
            "{loaded} select c.conrelid::regclass::text, quote_ident(c.conname), pg_get_constraintdef(c.oid),
                    obj_description(c.oid, 'pg_constraint')
               from pg_constraint c
              where c.contype = 'f' and c.conparentid = 0
                and (c.conrelid in (select oid from loaded) or c.confrelid in (select oid from loaded))
              order by c.conrelid, c.conname"
        );
        for row in session.rows(&keys, "list the foreign keys").await? {
            let (table, name, definition) = (row.text(0), row.text(1), row.text(2));
            found.sleep.push(format!("alter table {table} drop constraint {name}"));
            found.wake.push(format!("alter table {table} add constraint {name} {definition}"));
            if let Some(comment) = row.maybe(3) {
                found.wake.push(format!("comment on constraint {name} on {table} is {}", literal(comment)));
            }
        }
        found.find_acting(session, &loaded).await?;
        Ok(found)
    }

    /// Finds triggers and rules of these tables alone: foreign keys stay awake.
    pub(super) async fn acting(session: &Session, tables: &BTreeSet<u32>) -> Result<Self> {
        let mut found = Self::default();
        let loaded = loaded(tables);
        require_sleep(session, &loaded).await?;
        found.find_acting(session, &loaded).await?;
        Ok(found)
    }

    async fn find_acting(&mut self, session: &Session, loaded: &str) -> Result<()> {
        let others = format!(
            "{loaded} select t.tgrelid::regclass::text, 'trigger', quote_ident(t.tgname), t.tgenabled
               from pg_trigger t where not t.tgisinternal and t.tgenabled <> 'D' and t.tgrelid in (select oid from loaded)
             union all
             select r.ev_class::regclass::text, 'rule', quote_ident(r.rulename), r.ev_enabled
               from pg_rewrite r where r.ev_enabled <> 'D' and r.ev_class in (select oid from loaded)
              order by 1, 2, 3"
        );
        for row in session.rows(&others, "list the triggers and rules").await? {
            let (table, kind, name) = (row.text(0), row.text(1), row.text(2));
            let when = match row.text(3) {
                "R" => "replica ",
                "A" => "always ",
                _ => "",
            };
            self.sleep.push(format!("alter table only {table} disable {kind} {name}"));
            self.wake.push(format!("alter table only {table} enable {when}{kind} {name}"));
        }
        Ok(())
    }

    /// Puts it to sleep, for this transaction's other statements.
    pub(super) async fn put_to_sleep(&self, session: &Session) -> Result<()> {
        for sql in &self.sleep {
            session.run(sql, "take foreign keys, triggers and rules out of the way").await?;
        }
        Ok(())
    }

    /// Wakes it: foreign keys look at every row.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when a row points at one that is not there.
    pub(super) async fn wake(&self, session: &Session) -> Result<()> {
        use tokio_postgres::error::SqlState;
        for sql in &self.wake {
            let Err(cause) = session.client().batch_execute(sql).await else { continue };
            if cause.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) {
                let error = cause.as_db_error();
                let table = error.and_then(|error| error.table()).unwrap_or("a table");
                let constraint = error.and_then(|error| error.constraint()).unwrap_or("a foreign key");
                return Err(Error::usage_hint(
                    format!("rows of {table} would point at rows that are not there ({constraint})"),
                    "load the tables that they point at as well: --table may be given more than once",
                ));
            }
            return Err(session.failed("put foreign keys, triggers and rules back", &cause));
        }
        Ok(())
    }
}

/// Refuses tables that this role may not alter, those whose foreign keys point at them included, and foreign keys that it
/// could not put back.
///
/// # Errors
///
/// [`Error::Denied`] naming them.
pub(super) async fn require_rights(session: &Session, tables: &BTreeSet<u32>) -> Result<()> {
    let sql = format!(
        "{} select c.oid::regclass::text || ' belongs to ' || pg_get_userbyid(c.relowner) from pg_class c
          where not pg_has_role(c.relowner, 'USAGE')
            and (c.oid in (select oid from loaded)
                 or c.oid in (select conrelid from pg_constraint
                               where contype = 'f' and confrelid in (select oid from loaded)))
         union
         select 'no foreign key may point at ' || k.confrelid::regclass::text from pg_constraint k
          where k.contype = 'f' and k.conrelid in (select oid from loaded)
            and not has_table_privilege(k.confrelid, 'REFERENCES')
          order by 1",
        loaded(tables)
    );
    let foreign = session.rows(&sql, "look who owns the tables").await?;
    if foreign.is_empty() {
        return Ok(());
    }
    let some: Vec<&str> = foreign.iter().take(NAMED).map(|row| row.text(0)).collect();
    Err(Error::Denied {
        what: format!("records cannot be loaded into {} by this role: {}", session.place(), some.join("; ")),
        cause: Some(DatabaseWords("load as the role that owns the tables".into()).into()),
    })
}

/// The tables, those that point at them, and those that they point at, children first, as a lock takes them: to take a
/// foreign key away locks both of its tables.
///
/// A table of another role is left out where this one may not lock it: for that one the session's lock timeout counts.
pub(super) async fn all_names(session: &Session, tables: &BTreeSet<u32>) -> Result<Vec<String>> {
    let sql = format!(
        "{}, keys as (select conrelid, confrelid from pg_constraint where contype = 'f' and conparentid = 0
                         and (conrelid in (select oid from loaded) or confrelid in (select oid from loaded)))
         select case when c.relkind = 'p' then '' else 'only ' end || c.oid::regclass::text
           from pg_class c
          where (c.oid in (select oid from given) or c.oid in (select conrelid from keys)
                 or c.oid in (select confrelid from keys))
            and pg_has_role(c.relowner, 'USAGE')
          order by c.oid in (select confrelid from keys), 1",
        loaded(tables)
    );
    let rows = session.rows(&sql, "list the tables").await?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Before 15 the copies of a trigger on partitions are the server's own and follow only their parent.
async fn require_sleep(session: &Session, loaded: &str) -> Result<()> {
    if session.major() >= FOLLOW_BY_THEMSELVES {
        return Ok(());
    }
    let sql = format!(
        "{loaded} select t.tgrelid::regclass::text from pg_trigger t join pg_class c on c.oid = t.tgrelid
           where c.relkind = 'p' and not t.tgisinternal and t.tgrelid in (select oid from loaded) order by 1 limit 1"
    );
    match session.rows(&sql, "list the triggers").await?.first() {
        None => Ok(()),
        Some(row) => Err(Error::Unsupported {
            what: format!(
                "the partitioned table {} has triggers that cannot be kept quiet in PostgreSQL {}: restore the database",
                row.text(0),
                session.major()
            ),
        }),
    }
}

/// The tables and all their partitions, as `loaded`.
fn loaded(tables: &BTreeSet<u32>) -> String {
    let oids: Vec<String> = tables.iter().map(u32::to_string).collect();
    format!(
        "with given as (select unnest('{{{}}}'::oid[]) as oid),
              loaded as (select oid from given union select p.relid from given g, pg_partition_tree(g.oid) p)",
        oids.join(",")
    )
}
