//! What must hold before anything is touched: versions, rights, extensions, roles, room, nobody in the way.

use std::collections::BTreeSet;
use std::path::Path;

use super::catalogue::{identifier, literal};
use super::connect::{Session, TextRow};
use super::place::PostgresDatabase;
use super::restore::leading_number;
use crate::error::{DatabaseWords, Error, Result};
use crate::point::PostgresFacts;

/// Sessions of clients. Of sessions of other roles, a role without rights sees no kind; the server's own have no role.
pub(super) const CLIENT: &str = "(backend_type = 'client backend' or backend_type is null and usesysid is not null)";
/// Sessions that keep a database from being renamed: all but those that the server itself ends for it. `a` is
/// `pg_stat_activity`.
pub(super) const HINDERS: &str = "(a.backend_type is distinct from 'autovacuum worker'
      and not (a.backend_type is null and a.usesysid is null))";
/// Whether this role may end a session `a`
/// (<https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SIGNAL>).
pub(super) const MAY_BE_ENDED: &str = "exists (
      select from pg_roles me left join pg_roles its on its.oid = a.usesysid
       where me.rolname = current_user
         and (me.rolsuper or not its.rolsuper and (pg_has_role(its.oid, 'USAGE')
                                                   or pg_has_role('pg_signal_backend', 'USAGE'))))";
/// A session `a` in words, without what it is running: that may hold patients' names. What this role may not see of it is `?`.
pub(super) const WORDS: &str = "format('process %s (role %s, application %s, from %s, since %s, %s)', a.pid,
      coalesce(a.usename, '?'), coalesce(nullif(a.application_name, ''), 'unnamed'),
      case when a.client_addr is not null then host(a.client_addr) when a.client_port = -1 then 'a socket' else '?' end,
      coalesce(to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"'), '?'),
      coalesce(a.state, a.backend_type, '?'))";
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

/// A standby takes no writes.
pub(super) async fn require_primary(session: &Session) -> Result<()> {
    if session.value("select pg_is_in_recovery()", "ask whether it is a standby").await? != "t" {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!("{} is a standby, which takes no writes: restore into its primary server", session.place()),
    })
}

/// The live database.
pub(super) struct Live {
    /// The catalogue's number.
    pub(super) oid: u32,
    /// Bytes on the server's disk.
    pub(super) size: u64,
    /// Its owner, when that is not this role.
    foreign: Option<String>,
}

/// What is there under a name.
pub(super) async fn live(session: &Session, name: &str) -> Result<Option<Live>> {
    // Of a database that is not its own and that it is not in, a role may not always ask for the size.
    let sql = format!(
        "select oid, case when not pg_has_role(datdba, 'USAGE') then pg_get_userbyid(datdba) end,
                case when pg_has_role(datdba, 'USAGE') or datname = current_database() then pg_database_size(oid) end
           from pg_database where datname = {}",
        literal(name)
    );
    let rows = session.rows(&sql, "look for the database").await?;
    let one =
        |row: &TextRow| Live { oid: row.number(0), size: row.number(2), foreign: row.maybe(1).map(str::to_owned) };
    Ok(rows.first().map(one))
}

/// Only an owner may give a database another name.
pub(super) fn require_own(live: &Live, place: &str) -> Result<()> {
    let Some(owner) = &live.foreign else { return Ok(()) };
    Err(Error::Denied {
        what: format!("{place} belongs to the role {owner:?}, and the restore gives it another name"),
        cause: Some(DatabaseWords("restore as that role or a member of it, or as a superuser".into()).into()),
    })
}

/// What only the restore itself will show of extensions and the locale, in words.
pub(super) async fn doubts(session: &Session, facts: &PostgresFacts) -> Result<Vec<String>> {
    let mut doubts = Vec::new();
    let sql = "select e.name from pg_available_extensions e
                 join pg_available_extension_versions v on v.name = e.name and v.version = e.default_version
                where v.superuser and not v.trusted
                  and not (select rolsuper from pg_roles where rolname = current_user) order by 1";
    let rows = session.rows(sql, "look who may make which extensions").await?;
    let of_it = |name: &str| facts.extensions.iter().any(|extension| extension.name == name);
    let closed: Vec<&str> = rows.iter().map(|row| row.text(0)).filter(|name| of_it(name)).collect();
    if !closed.is_empty() {
        doubts.push(format!("whether this role may make the extensions {}", closed.join(", ")));
    }
    let known = session.rows("select collcollate from pg_collation", "list the locales").await?;
    let plain =
        |name: &str| ["C", "POSIX", ""].contains(&name) || known.iter().any(|row| same_locale(row.text(0), name));
    let missing: BTreeSet<&str> =
        [facts.collate.as_str(), facts.ctype.as_str()].into_iter().filter(|name| !plain(name)).collect();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.into_iter().collect();
        doubts.push(format!("whether the server has the locale {}, which it does not list", names.join(" and ")));
    }
    Ok(doubts)
}

/// `cs_CZ.UTF-8` and `cs_CZ.utf8` are one.
fn same_locale(one: &str, other: &str) -> bool {
    let plain = |name: &str| name.to_ascii_lowercase().replace('-', "");
    plain(one) == plain(other)
}

/// Tablespaces of the point that the server does not have.
pub(super) async fn missing_tablespaces(session: &Session, facts: &PostgresFacts) -> Result<Vec<String>> {
    let sql = "select spcname from pg_tablespace where has_tablespace_privilege(oid, 'CREATE')";
    let rows = session.rows(sql, "list the tablespaces").await?;
    let there: BTreeSet<&str> = rows.iter().map(|row| row.text(0)).collect();
    let wanted = facts.tablespaces.iter().chain(&facts.tablespace);
    let missing: BTreeSet<&String> = wanted.filter(|name| !there.contains(name.as_str())).collect();
    Ok(missing.into_iter().cloned().collect())
}

/// A prepared transaction holds a database for as long as nobody ends it, and no session can be ended instead.
pub(super) async fn require_no_prepared(session: &Session, name: &str) -> Result<()> {
    let sql = format!("select gid from pg_prepared_xacts where database = {} order by prepared", literal(name));
    let rows = session.rows(&sql, "list the prepared transactions").await?;
    if rows.is_empty() {
        return Ok(());
    }
    let some: Vec<String> = rows.iter().take(NAMED).map(|row| literal(row.text(0))).collect();
    let one = &some[0];
    Err(Error::usage_hint(
        format!("{} prepared transactions are in the database {name:?}: {}", rows.len(), some.join(", ")),
        format!("end them in that database, so that it can be renamed: ROLLBACK PREPARED {one}, or COMMIT PREPARED"),
    ))
}

/// Who is in a database, in words without what they are running; `which` of the sessions `a`.
pub(super) async fn sessions(session: &Session, name: &str, which: &str) -> Result<Vec<String>> {
    let sql = format!(
        "select {WORDS} from pg_stat_activity a
          where a.datname = {} and a.pid <> pg_backend_pid() and {which} order by a.pid",
        literal(name)
    );
    let rows = session.rows(&sql, "list the sessions").await?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Who holds a lock on one of these tables, in words.
pub(super) async fn table_holders(session: &Session, oids: &str) -> Result<Vec<String>> {
    let sql = format!(
        "select {WORDS} from pg_stat_activity a
          where a.pid <> pg_backend_pid() and a.pid in (
                select l.pid from pg_locks l
                  join pg_database d on d.oid = l.database and d.datname = current_database()
                 where l.granted and l.locktype = 'relation' and l.relation in ({oids}))
          order by a.pid"
    );
    let rows = session.rows(&sql, "ask who holds a lock").await?;
    Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
}

/// Why sessions that keep a database from being renamed cannot be ended by this role, if there are such.
pub(super) async fn unendable(session: &Session, name: &str) -> Result<Option<Error>> {
    let there = sessions(session, name, &format!("{HINDERS} and not {MAY_BE_ENDED}")).await?;
    if there.is_empty() {
        return Ok(None);
    }
    let some: Vec<&str> = there.iter().take(NAMED).map(String::as_str).collect();
    Ok(Some(Error::Denied {
        what: format!("{} sessions in the database {name:?} cannot be ended: {}", there.len(), some.join(", ")),
        cause: Some(
            DatabaseWords(
                "this role may end its own and, as a member of pg_signal_backend, others but superusers'".into(),
            )
            .into(),
        ),
    }))
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
