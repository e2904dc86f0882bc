//! The database: is it there, can all of it be read, will it hold still.

use super::{DoctorPlan, Line, Step};
use crate::clock::Clock;
use crate::database::Database;
use crate::database::postgres::{PostgresDatabase, PostgresLook, Unreadable, Wanted};
use crate::database::sqlite::{Condition, SqliteDatabase};
use crate::error::Error;
use crate::event::{Events, size};
use crate::local::{Scratch, blocking};

/// What is there and what may be read.
pub(super) async fn look(plan: &DoctorPlan) -> Vec<Line> {
    match &plan.backup.database {
        None => Vec::new(),
        Some(Database::Sqlite(database)) => file(plan, database).await,
        Some(Database::Postgres(database)) => match database.examine().await {
            Err(error) => vec![Line::of_error("database", error)],
            Ok(look) => server(database, &look),
        },
    }
}

async fn file(plan: &DoctorPlan, database: &SqliteDatabase) -> Vec<Line> {
    let name = "database";
    let path = database.path().display().to_string();
    let (looked, wait) = (database.clone(), plan.backup.lock_wait);
    let condition = match blocking(move || looked.condition(wait)).await {
        Ok(condition) => condition,
        Err(error) => return vec![Line::of_error(name, error)],
    };
    let bring_back = || Step::Nexus(["restore", "latest", "--only", "database"].map(str::to_owned).to_vec());
    let (bytes, journal) = match condition {
        Condition::Healthy { bytes, journal_mode, .. } => (bytes, journal_mode),
        Condition::Absent => {
            let next =
                vec![Step::Say("name the right file with --database, or bring it back:".to_owned()), bring_back()];
            return vec![Line::failed(name, format!("`{path}` is not there"), next)];
        }
        Condition::Empty => return vec![Line::failed(name, format!("`{path}` is empty"), vec![bring_back()])],
        Condition::Broken(reason) => {
            return vec![Line::failed(name, format!("`{path}` is damaged: {reason}"), vec![bring_back()])];
        }
    };
    let mut lines = vec![Line::passed(name, format!("SQLite, {}, `quick_check` finds nothing", size(bytes)))];
    lines.push(if journal == "wal" {
        Line::passed("journal mode", "wal: reading it hinders nobody")
    } else {
        let quoted = path.replace('\'', "'\\''");
        Line::warned(
            "journal mode",
            format!("{journal}: whoever writes waits while the private copy is made"),
            vec![Step::Shell(format!("sqlite3 '{quoted}' 'PRAGMA journal_mode = WAL'"))],
        )
    });
    lines
}

fn server(database: &PostgresDatabase, look: &PostgresLook) -> Vec<Line> {
    let what = format!("PostgreSQL {}, {} tables, {}", look.server, look.tables, size(look.bytes));
    let mut lines = vec![Line::passed("database", what)];
    lines.push(match &look.program {
        Ok(version) => Line::passed("pg_dump", version.clone()),
        Err(error) => Line::failed(
            "pg_dump",
            error.to_string(),
            vec![
                Step::Say("for example on Debian (`programs` under [database] names a folder of its own):".to_owned()),
                Step::Shell(format!("apt-get install postgresql-client-{}", look.major)),
            ],
        ),
    });
    let closed = |tables: &Unreadable, how: &str| {
        let next = vec![
            Step::Say("as the tables' owner or a superuser:".to_owned()),
            Step::Shell(format!("psql '{}' -c '{}'", database_name(database), tables.remedy.replace('\'', "'\\''"))),
        ];
        Line::failed("tables", format!("{} {how}: {}", tables.tables, tables.named.join(", ")), next)
    };
    lines.push(if look.unreadable.tables > 0 {
        closed(&look.unreadable, &format!("may not be read by {}", look.role))
    } else if look.hidden.tables > 0 {
        closed(&look.hidden, &format!("show {} only some of their rows", look.role))
    } else {
        Line::passed("tables", format!("{} may read every row", look.role))
    });
    lines
}

/// Where psql finds it, without a user: the command is for another role.
fn database_name(database: &PostgresDatabase) -> String {
    Database::Postgres(Box::new(database.clone())).location()
}

/// Holds a database on a server as a backup would, and lets go of it.
pub(super) async fn hold(plan: &DoctorPlan, scratch: &Scratch, clock: &Clock, events: &Events) -> Vec<Line> {
    let Some(Database::Postgres(database)) = &plan.backup.database else { return Vec::new() };
    let wanted = Wanted { dump: false, readers: 1, lock_wait: plan.backup.lock_wait };
    let now = || clock.now();
    match database.instant(wanted, &now, scratch, events).await {
        Ok(_) => vec![Line::passed(
            "instant",
            "every table could be locked against changes of its shape, and a snapshot shared",
        )],
        Err(Error::Busy { what }) => {
            let next = vec![Step::Say(
                "wait until that session has ended, or end it: `select pg_terminate_backend(PID)`".to_owned(),
            )];
            vec![Line::failed("instant", what, next)]
        }
        Err(error) => vec![Line::of_error("instant", error)],
    }
}
