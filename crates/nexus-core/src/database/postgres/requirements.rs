//! What must hold before anything is touched: versions, rights, extensions, roles, room, nobody in the way.

use std::collections::BTreeSet;
use std::path::Path;

use super::catalogue::{identifier, literal};
use super::connect::Session;
use super::place::PostgresDatabase;
use super::restore::leading_number;
use crate::error::{DatabaseWords, Error, Result};
use crate::point::PostgresFacts;

/// Sessions of clients. Of sessions of other roles, a role without rights sees no kind; the server's own have no role.
pub(super) const CLIENT: &str = "(backend_type = 'client backend' or backend_type is null and usesysid is not null)";
/// How many names a message lists.
const NAMED: usize = 10;

pub(super) fn require_version(session: &Session, facts: &PostgresFacts) -> Result<()> {
    let was = leading_number(&facts.server);
    if was <= session.major() {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!(
            "the point is of PostgreSQL {was} and {} is PostgreSQL {}: a dump cannot be restored into an older server",
            session.place(),
            session.major()
        ),
    })
}

pub(super) async fn require_creation(session: &Session) -> Result<()> {
    let sql = "select rolcreatedb or rolsuper from pg_roles where rolname = current_user";
    if session.value(sql, "look at its role").await? == "t" {
        return Ok(());
    }
    Err(Error::Denied {
        what: format!(
            "this role may not create databases at {}, and the restore makes one beside the live one",
            session.place()
        ),
        cause: Some(
            DatabaseWords("restore as another role (ALTER ROLE … CREATEDB), or with --only database --in-place".into())
                .into(),
        ),
    })
}

pub(super) async fn require_extensions(session: &Session, facts: &PostgresFacts) -> Result<()> {
    let rows = session.rows("select name from pg_available_extensions", "list the extensions").await?;
    let missing: Vec<&str> = facts
        .extensions
        .iter()
        .map(|extension| extension.name.as_str())
        .filter(|name| !rows.iter().any(|row| row.text(0) == *name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!(
            "{} lacks extensions that the database uses: {}; install them on the server first",
            session.place(),
            missing.join(", ")
        ),
    })
}

pub(super) async fn require_roles(session: &Session, facts: &PostgresFacts) -> Result<()> {
    // From 16 on a role may be a member of another without the right to make it an owner.
    let right = if session.major() >= 16 { "SET" } else { "MEMBER" };
    let sql = format!("select r.rolname, pg_has_role(current_user, r.oid, '{right}') from pg_roles r");
    let rows = session.rows(&sql, "list the roles").await?;
    let owners: BTreeSet<&str> = facts.owners.iter().chain([&facts.owner]).map(String::as_str).collect();
    let granted = facts.grants.iter().flatten().filter_map(|grant| grant.to.as_ref());
    let set = facts.settings.iter().filter_map(|setting| setting.role.as_ref());
    let mut named: BTreeSet<&str> = facts.roles.iter().chain(granted).chain(set).map(String::as_str).collect();
    named.extend(&owners);
    let missing: Vec<&str> =
        named.iter().copied().filter(|name| !rows.iter().any(|row| row.text(0) == *name)).take(NAMED).collect();
    if !missing.is_empty() {
        let commands: Vec<String> = missing.iter().map(|name| format!("CREATE ROLE {};", identifier(name))).collect();
        return Err(Error::Missing {
            what: format!(
                "{} lacks roles that own or may use what is restored: {}",
                session.place(),
                missing.join(", ")
            ),
            cause: Some(
                DatabaseWords(format!("make them ({}), or restore with --no-owner", commands.join(" "))).into(),
            ),
        });
    }
    let foreign: Vec<&str> = rows
        .iter()
        .filter(|row| !row.is_true(1) && owners.contains(row.text(0)))
        .map(|row| row.text(0))
        .take(NAMED)
        .collect();
    if foreign.is_empty() {
        return Ok(());
    }
    Err(Error::Denied {
        what: format!(
            "this role is no member of {} at {}, and cannot make them owners again",
            foreign.join(", "),
            session.place()
        ),
        cause: Some(DatabaseWords("restore as a superuser or a member of them, or with --no-owner".into()).into()),
    })
}

/// Who is in a database, in words without what they are running.
pub(super) async fn sessions(session: &Session, name: &str) -> Result<Vec<String>> {
    let sql = format!(
        "select format('process %s (role %s, application %s, %s)', pid, coalesce(usename, '?'),
                       coalesce(nullif(application_name, ''), 'unnamed'), coalesce(state, '?'))
           from pg_stat_activity
          where datname = {} and pid <> pg_backend_pid() and {CLIENT} order by pid",
        literal(name)
    );
    let rows = session.rows(&sql, "list the sessions").await?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

pub(super) fn in_the_way(place: &str, sessions: &[String]) -> Error {
    let some: Vec<&str> = sessions.iter().take(NAMED).map(String::as_str).collect();
    Error::usage_hint(
        format!("{} sessions are in {place}: {}", sessions.len(), some.join(", ")),
        "stop the app, or have its sessions ended when the names are swapped: --end-sessions",
    )
}

/// Room for a second database, where it can be seen; else why it cannot.
pub(super) async fn require_room(
    database: &PostgresDatabase,
    session: &Session,
    facts: &PostgresFacts,
) -> Result<Option<String>> {
    let here = database.is_local() || ["localhost", "127.0.0.1", "::1"].contains(&database.host.as_str());
    let unseen = "the room on the server's disk cannot be seen from here".to_owned();
    if !here {
        return Ok(Some(unseen));
    }
    let Ok(folder) = session.value("select current_setting('data_directory')", "ask for its folder").await else {
        return Ok(Some(unseen));
    };
    let Ok(disk) = rustix::fs::statvfs(Path::new(&folder)) else { return Ok(Some(unseen)) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= facts.size {
        return Ok(None);
    }
    Err(Error::Full {
        what: format!(
            "the database had {} bytes and is restored while the live one is there, but only {free} are free in `{folder}`",
            facts.size
        ),
        cause: None,
    })
}

/// Everything in the database must be this role's, or it could not be removed before the old state comes.
pub(super) async fn require_ownership(session: &Session) -> Result<()> {
    let sql = "select 'schema ' || quote_ident(n.nspname) from pg_namespace n
                where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'public')
                  and not pg_has_role(n.nspowner, 'USAGE')
               union all
               select (pg_identify_object(d.classid, d.objid, 0)).type || ' ' ||
                      (pg_identify_object(d.classid, d.objid, 0)).identity
                 from pg_namespace n
                 join pg_depend d on d.refclassid = 'pg_namespace'::regclass and d.refobjid = n.oid and d.deptype = 'n'
                 left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid
                 left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
                 left join pg_type t on d.classid = 'pg_type'::regclass and t.oid = d.objid
                where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
                  and not exists (select from pg_depend e where e.classid = d.classid and e.objid = d.objid
                                                            and e.deptype = 'e')
                  and not coalesce(pg_has_role(coalesce(c.relowner, p.proowner, t.typowner), 'USAGE'), true)
               order by 1";
    let rows = session.rows(sql, "look who owns what").await?;
    if rows.is_empty() {
        return Ok(());
    }
    let some: Vec<&str> = rows.iter().take(NAMED).map(|row| row.text(0)).collect();
    Err(Error::Denied {
        what: format!(
            "{} things in {} belong to other roles, so this one cannot put the database back in place: {}",
            rows.len(),
            session.place(),
            some.join(", ")
        ),
        cause: Some(DatabaseWords("restore as the role that owns them, or without --in-place".into()).into()),
    })
}
