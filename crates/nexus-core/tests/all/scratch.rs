//! A point's database in scratch: the same rows, nothing of the app's touched, and nothing left of it.

use std::path::Path;
use std::time::Duration;

use nexus_core::database::Database;
use nexus_core::database::postgres::{PostgresDatabase, Surroundings};
use nexus_core::database::scratch::{Purpose, ScratchDatabase, ScratchPlan};
use nexus_core::error::{Error, Result};
use nexus_core::event::Events;
use nexus_core::local::Scratch;
use nexus_core::point::Part;
use nexus_core::vault::RecoveryPoint;
use nexus_testkit::postgres::{Database as Made, Server, programs, unique};

use crate::world::{World, sql};

/// The version that Debian brings.
const DEBIAN: u32 = 15;
const WAIT: Duration = Duration::from_secs(2);

fn postgres(url: &str) -> PostgresDatabase {
    let around = Surroundings { programs: Some(programs(DEBIAN)), ..Surroundings::folder(Path::new("/")) };
    match Database::parse(url, &around).expect("a URL") {
        Database::Postgres(database) => *database,
        Database::Sqlite(_) => panic!("{url} is a file"),
    }
}

/// A server's database with three rows, and a point of it.
async fn point_of(world: &World, database: &Made<'_>) -> RecoveryPoint {
    database.sql("create table if not exists patient (id integer primary key, name text)");
    database.sql("insert into patient values (1, 'John'), (2, 'Zoë'), (3, null) on conflict do nothing");
    let mut plan = world.plan(&[Part::Database]);
    plan.database = Some(Database::Postgres(Box::new(postgres(&database.url()))));
    world.backup_as(&plan).await.expect("a backup").point
}

async fn made(world: &World, point: &RecoveryPoint, server: Option<&PostgresDatabase>) -> Result<ScratchDatabase> {
    let scratch = Scratch::create(&world.scratch())?;
    let part = point.manifest().parts.database.as_ref().expect("a database");
    let plan = ScratchPlan::make(part, (point.id(), Purpose::Drill), server, WAIT).await?;
    let copy = point.database_copy(&scratch).await?;
    let made = plan.create(&copy, &scratch, &Events::none()).await?;
    if matches!(made.database(), Database::Sqlite(_)) {
        // The file lies in this folder and would go with it; the world's own folder goes later.
        std::mem::forget(scratch);
    }
    Ok(made)
}

fn name(made: &ScratchDatabase) -> String {
    match made.database() {
        Database::Postgres(database) => database.name().to_owned(),
        Database::Sqlite(database) => panic!("{database:?} is a file"),
    }
}

#[tokio::test]
async fn a_scratch_file_holds_the_point_s_rows_and_is_gone_once_it_is_removed() {
    let world = World::in_folders();
    let point = world.backup().await.expect("a backup").point;
    sql(&world.database(), "DELETE FROM visit");
    let made = made(&world, &point, None).await.expect("a scratch database");
    let Database::Sqlite(file) = made.database().clone() else { panic!("{made:?} is no file") };
    assert!(file.path().display().to_string().ends_with(&format!("nexus_drill_{}.sqlite3", point.id())));
    let visits = |path: &Path| {
        let connection = rusqlite::Connection::open(path).expect("a database");
        connection.query_row("SELECT count(*) FROM visit", [], |row| row.get::<_, i64>(0)).expect("a table")
    };
    assert_eq!(visits(file.path()), 3);
    made.remove().await.expect("it is removed");
    assert!(!file.path().exists());
    assert_eq!(visits(&world.database()), 0, "the live one was touched");
}

#[tokio::test]
async fn a_scratch_database_holds_the_point_s_rows_beside_the_live_one_and_is_gone_once_it_is_removed() {
    let server = Server::shared(DEBIAN);
    let database = Made::empty(&server, "connection limit 7");
    let world = World::in_folders();
    let point = point_of(&world, &database).await;
    database.sql("delete from patient");
    let made = made(&world, &point, Some(&postgres(&database.url()))).await.expect("a scratch database");
    let name = name(&made);
    assert_eq!(name, format!("nexus_drill_{}", point.id()));
    assert_eq!((made.rows, server.sql(&name, "select count(*) from patient")), (3, "3".to_owned()));
    let limit = format!("select datconnlimit from pg_database where datname = '{name}'");
    assert_eq!(server.sql("postgres", &limit), "-1", "who works in it would be kept out");
    made.remove().await.expect("it is removed");
    assert!(!server.databases().contains(&name));
    assert_eq!(database.sql("select count(*) from patient"), "0");
}

#[tokio::test]
async fn scratch_of_a_run_that_is_gone_is_removed_by_the_next_and_that_of_a_living_one_by_nobody() {
    // A server of its own: other tests would remove what is left here.
    let server = Server::own(DEBIAN);
    let database = Made::empty(&server, "");
    let world = World::in_folders();
    let (one, two, three) =
        (point_of(&world, &database).await, point_of(&world, &database).await, point_of(&world, &database).await);
    // One that sees of other roles' sessions no more than their number.
    let role = unique("modest");
    server.role(&role, "createdb");
    let (place, modest) = (postgres(&database.url()), postgres(&server.url_of(&database.name, &role, "secret")));
    let living = made(&world, &one, Some(&place)).await.expect("a scratch database");
    let dead = made(&world, &two, Some(&place)).await.expect("a scratch database");
    let left = name(&dead);
    let holder = format!(
        "select pg_terminate_backend(split_part(split_part(shobj_description(oid, 'pg_database'), 'session ', 2), ' ', 1)::int, 10000)
           from pg_database where datname = '{left}'"
    );
    assert_eq!(server.sql("postgres", &holder), "t");
    std::mem::forget(dead);
    // It may not remove what is another role's, says so, and goes on.
    let by_modest = made(&world, &three, Some(&modest)).await.expect("a scratch database");
    assert!(server.databases().contains(&left) && server.databases().contains(&name(&living)));
    by_modest.remove().await.expect("it is removed");
    let next = made(&world, &three, Some(&place)).await.expect("a scratch database");
    assert!(!server.databases().contains(&left), "what a dead run left is there still");
    assert!(server.databases().contains(&name(&living)), "a living run's was taken away");
    let again = made(&world, &one, Some(&place)).await.expect_err("it is in use");
    assert!(matches!(&again, Error::Busy { .. }), "{again:?}");
    let again = made(&world, &one, Some(&modest)).await.expect_err("it is in use");
    assert!(matches!(&again, Error::Busy { .. }), "{again:?}");
    assert_eq!(server.sql(&name(&living), "select count(*) from patient"), "3");
    living.remove().await.expect("it is removed");
    next.remove().await.expect("it is removed");
}

/// Killed between making it and marking it.
#[tokio::test]
async fn scratch_without_a_mark_is_removed_when_it_is_empty_and_nobody_can_be_making_it() {
    let server = Server::own(DEBIAN);
    let database = Made::empty(&server, "");
    let world = World::in_folders();
    let point = point_of(&world, &database).await;
    let place = postgres(&database.url());
    let (empty, filled) = ("nexus_drill_x_20250101_000000", "nexus_rehearse_x_20250101_000000");
    for name in [empty, filled] {
        server.sql("postgres", &format!("create database {name}"));
    }
    server.sql(filled, "create table theirs (a integer)");
    // Another run is there, and may be about to mark it.
    let mut other = server.psql("postgres");
    other.args(["-c", "select pg_sleep(600)"]).env("PGAPPNAME", "nexus");
    let other = nexus_testkit::kill::Running::start(other);
    let there =
        "select count(*) from pg_stat_activity where application_name = 'nexus' and query like '%pg_sleep(600)'";
    while server.sql("postgres", there) == "0" {
        tokio::task::yield_now().await;
    }
    made(&world, &point, Some(&place)).await.expect("a scratch database").remove().await.expect("it is removed");
    assert!(server.databases().contains(&empty.to_owned()), "a living run's was taken away");
    other.kill();
    server.sql(
        "postgres",
        "select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name = 'nexus'",
    );
    made(&world, &point, Some(&place)).await.expect("a scratch database").remove().await.expect("it is removed");
    let left = server.databases();
    assert!(!left.contains(&empty.to_owned()) && left.contains(&filled.to_owned()), "{left:?}");
}

#[tokio::test]
async fn a_database_of_that_name_which_is_not_ours_is_left_alone() {
    let server = Server::own(DEBIAN);
    let database = Made::empty(&server, "");
    let world = World::in_folders();
    let point = point_of(&world, &database).await;
    let name = format!("nexus_drill_{}", point.id());
    server.sql("postgres", &format!("create database {name}"));
    server.sql(&name, "create table theirs (a integer)");
    let error = made(&world, &point, Some(&postgres(&database.url()))).await.expect_err("it is somebody else's");
    assert!(matches!(&error, Error::Exists { .. }), "{error:?}");
    assert_eq!(server.sql(&name, "select count(*) from theirs"), "0");
}

#[tokio::test]
async fn a_role_that_may_not_create_databases_is_refused_with_what_to_do() {
    let server = Server::shared(DEBIAN);
    let database = Made::empty(&server, "");
    let world = World::in_folders();
    let point = point_of(&world, &database).await;
    let role = unique("narrow");
    server.role(&role, "");
    let narrow = postgres(&server.url_of(&database.name, &role, "secret"));
    let error = made(&world, &point, Some(&narrow)).await.expect_err("it may not");
    let hint = std::error::Error::source(&error).expect("what to do").to_string();
    assert!(matches!(&error, Error::Denied { .. }) && hint.contains("CREATEDB"), "{error:?}");
    let error = made(&world, &point, None).await.expect_err("no server is named");
    assert!(matches!(&error, Error::Usage { .. }), "{error:?}");
}
