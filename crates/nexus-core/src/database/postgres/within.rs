//! The way back into the live database itself, for roles that may not create databases: one transaction that empties it,
//! fills it and compares it, so that whatever goes wrong leaves it as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::catalogue::{literal, parts_of};
use super::connect::Session;
use super::requirements::CLIENT;
use super::restore::{PostgresPlan, PostgresRestored, Sessions};
use super::script::{self, Around};
use super::tools::{self, Access};
use crate::error::{Error, Result};
use crate::local::{self, Scratch};

/// Removes everything that a dump would make: whole schemas, what lies in `public`, large objects and publications.
/// What an extension made stays with the extension.
const EMPTY: &str = "
do $nexus$
declare
    one record;
begin
    for one in select oid from pg_largeobject_metadata loop
        perform lo_unlink(one.oid);
    end loop;
    for one in select pubname from pg_publication loop
        execute format('drop publication %I', one.pubname);
    end loop;
    for one in select nspname from pg_namespace
                where nspname !~ '^pg_' and nspname not in ('information_schema', 'public') loop
        execute format('drop schema %I cascade', one.nspname);
    end loop;
    loop
        select case i.type when 'composite type' then 'type' when 'statistics object' then 'statistics'
                           else i.type end as type, i.identity into one
          from pg_depend d
         cross join lateral pg_identify_object(d.classid, d.objid, 0) i
         where d.refclassid = 'pg_namespace'::regclass and d.refobjid = 'public'::regnamespace and d.deptype = 'n'
           and i.type not in ('default acl', 'extension')
           and not exists (select from pg_depend e where e.classid = d.classid and e.objid = d.objid
                                                     and (e.deptype = 'e' or e.deptype = 'i' and e.refobjid <> e.objid))
         limit 1;
        exit when not found;
        execute format('drop %s %s cascade', one.type, one.identity);
    end loop;
end
$nexus$;
";

/// Puts a dump into a live database that is emptied first, all in one transaction.
pub(super) struct Within<'a> {
    pub(super) plan: &'a PostgresPlan,
}

impl Within<'_> {
    /// Does it, and answers what is there now.
    ///
    /// # Errors
    ///
    /// Any error means that nothing was changed.
    pub(super) async fn carry_out(
        &self,
        dump: &Path,
        tables: &BTreeMap<String, u64>,
        scratch: &Scratch,
    ) -> Result<PostgresRestored> {
        let what = format!("cannot restore the dump into {}", self.plan.target.location());
        if self.plan.liberties.sessions == Sessions::Ended {
            let session = Session::open(&self.plan.target).await?;
            let sql = format!(
                "select pg_terminate_backend(pid) from pg_stat_activity
                  where datname = current_database() and pid <> pg_backend_pid() and {CLIENT}"
            );
            session.run(&sql, "end the sessions").await?;
        }
        let access = Access::prepare(&self.plan.target, scratch)?;
        let list = self.list(dump, scratch, &what).await?;
        let mut restore = tools::offline(&self.plan.program);
        restore.arg(format!("--use-list={}", list.display())).args(self.plan.flags()).arg(dump);
        let around = Around {
            // The dump itself puts an end to the limit, when all locks are held.
            before: format!(
                "begin;\nset local client_min_messages = warning;\nset local lock_timeout = {};\n{EMPTY}",
                self.plan.lock_wait.as_millis().max(1)
            ),
            after: format!("{}\ncommit;\n", comparison(tables, self.plan.facts.large_objects)),
        };
        script::run(&access, &self.plan.program, restore, &around, &what).await?;
        let session = Session::open(&self.plan.target).await?;
        session.run("analyze", "gather statistics").await?;
        let count = tables.len() as u64;
        Ok(PostgresRestored {
            tables: count,
            equal_tables: count,
            rows: tables.values().sum(),
            unkept: self.plan.unkept.clone(),
            ..PostgresRestored::default()
        })
    }

    /// The dump's table of contents without comments on extensions that belong to others.
    async fn list(&self, dump: &Path, scratch: &Scratch, what: &str) -> Result<PathBuf> {
        let session = Session::open(&self.plan.target).await?;
        let sql = "select extname from pg_extension where not pg_has_role(extowner, 'USAGE')";
        let foreign = session.rows(sql, "look who owns the extensions").await?;
        let output = tools::offline(&self.plan.program).arg("--list").arg(dump).stdin(Stdio::null()).output().await;
        let output = output
            .map_err(|cause| Error::local(format!("cannot run `{}`", &self.plan.program.path.display()), cause))?;
        tools::require_success(what, output.status, String::from_utf8_lossy(&output.stderr).trim())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let spoils =
            |line: &str| foreign.iter().any(|row| line.contains(&format!(" COMMENT - EXTENSION {}", row.text(0))));
        let kept: Vec<&str> = text.lines().filter(|line| !spoils(line)).collect();
        let path = scratch.file("contents.list");
        // An earlier try within the same run may have left one.
        let _ = std::fs::remove_file(&path);
        let mut file = local::create_private(&path)?;
        std::io::Write::write_all(&mut file, (kept.join("\n") + "\n").as_bytes())
            .map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
        Ok(path)
    }
}

/// SQL that fails unless every table has as many rows as it had, and as many large objects are there.
fn comparison(tables: &BTreeMap<String, u64>, large_objects: u64) -> String {
    let wanted = tables.iter().map(|(name, rows)| {
        let (schema, table) = parts_of(name);
        format!("({}, {}, {rows}::bigint)", literal(&schema), literal(&table))
    });
    let wanted = wanted.chain(["(null::text, null::text, null::bigint)".to_owned()]).collect::<Vec<_>>().join(", ");
    format!(
        "do $nexus$
declare
    one record;
    there bigint;
begin
    for one in select w.s, w.t, w.n, c.relkind from (values {wanted}) w(s, t, n)
                 left join pg_catalog.pg_namespace n on n.nspname = w.s
                 left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.t and c.relkind in ('r', 'p')
                where w.t is not null loop
        if one.relkind is null then
            raise exception 'the table %.% is not there', one.s, one.t;
        end if;
        execute format('select count(*) from %s %I.%I',
                       case when one.relkind = 'p' then '' else 'only' end, one.s, one.t) into there;
        if there <> one.n then
            raise exception 'the table %.% has % rows, not %', one.s, one.t, there, one.n;
        end if;
    end loop;
    select count(*) into there from pg_catalog.pg_largeobject_metadata;
    if there <> {large_objects} then
        raise exception '% large objects are there, not {large_objects}', there;
    end if;
end
$nexus$;"
    )
}
