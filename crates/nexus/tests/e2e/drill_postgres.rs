//! Drills of PostgreSQL points: restored as a new database beside what is there, and removed again however they end.

use std::time::Duration;

use nexus_testkit::kill::Running;
use nexus_testkit::postgres::{Database, Server, unique};
use serde_json::json;

use crate::app::App;
use crate::drill::{drill, point, verified};
use crate::postgres::{DEBIAN, app};

const LIMIT: Duration = Duration::from_mins(2);

/// A table with twenty rows whose restore takes some seconds: an index asks a function that waits in a scratch database.
const SLOW: &str = "
    create table t (id integer primary key);
    insert into t select generate_series(1, 20);
    create function slow(integer) returns integer immutable language plpgsql as $$
    begin
        if current_database() like 'nexus\\_drill\\_%' then perform pg_sleep(0.2); end if;
        return $1;
    end $$;
    create index slowly on t (slow(id))";

/// The databases that drills have made.
fn scratch(server: &Server) -> Vec<String> {
    server.databases().into_iter().filter(|name| name.starts_with("nexus_drill_")).collect()
}

/// A drill that is filling its database.
fn filling(app: &App, server: &Server, id: &str) -> Running {
    let mut running = app.start(&["drill", id]);
    let working = "select count(*) from pg_stat_activity where datname like 'nexus\\_drill\\_%'
                    and query ilike 'create index%'";
    while server.sql("postgres", working) == "0" {
        assert!(running.ended_within(Duration::ZERO).is_none(), "it ended before it filled anything");
    }
    running
}

#[tokio::test]
async fn everything_in_a_database_is_restored_into_scratch_and_found_equal_to_its_records() {
    let server = Server::shared(DEBIAN);
    let (database, _, _) = Database::with_everything(&server);
    database.sql("create table heap (a text); insert into heap values ('b'), ('a'), ('b'), (null)");
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let before = database.digest();
    let id = app.back_up(&[]);
    let told = verified(&app, &[]);
    assert_eq!((&told["depth"], &told["point"]), (&json!("drill"), &json!(id)));
    let compared = &told["database"]["equal_to_records"];
    assert!(compared["of"].as_u64() > Some(3) && compared["tables"] == compared["of"], "{told}");
    let place = told["database"]["place"].as_str().expect("a place");
    assert!(place.ends_with(&format!("/nexus_drill_{id}")), "{place}");
    assert_eq!(database.digest(), before, "the source was changed");
    assert!(!scratch(&server).iter().any(|name| place.ends_with(name)), "it is there still");
    app.assert_no_litter();
}

#[tokio::test]
async fn another_server_may_be_named_and_is_said_to_be_used() {
    let (server, other) = (Server::shared(DEBIAN), Server::shared(16));
    let database = Database::empty(&server, "");
    database.sql("create table t (id integer primary key, name text); insert into t values (1, 'John'), (2, null)");
    let (_service, app) = app(&database.url(), 16).await;
    let id = app.back_up(&[]);
    let place = format!("postgres://127.0.0.1:{}/nexus_drill_{id}", other.port);
    let planned = drill(&app, &["--dry-run", "--database", &other.url("postgres")]).ends_with(0).json();
    assert_eq!(planned["database"]["place"], place);
    let told = app.run(&["drill", "--database", &other.url("postgres")]).ends_with(0);
    assert!(told.err.contains(&place) && told.out.contains(&place), "{told:?}");
    assert!(!scratch(&other).contains(&format!("nexus_drill_{id}")));
    let older = app.run(&["drill", "--database", &other.url("nowhere-needed"), "--json"]).ends_with(0).json();
    assert_eq!(older["verdict"], "verified", "the named database need not be there: {older}");
}

#[tokio::test]
async fn a_server_that_is_older_or_does_not_answer_is_refused_before_anything_is_fetched() {
    let (newer, older) = (Server::shared(16), Server::shared(15));
    let database = Database::empty(&newer, "");
    database.sql("create table t (id integer primary key)");
    let (_service, app) = app(&database.url(), 16).await;
    app.back_up(&[]);
    let before = app.vault().await;
    app.run(&["drill", "--database", &older.url("postgres")]).refuses(2, "older server");
    app.run(&["drill", "--database", &older.url("postgres"), "--dry-run"]).refuses(2, "older server");
    let nobody = app.run(&["drill", "--database", "postgres://ops:hunter2@127.0.0.1:1/x"]).refuses(2, "127.0.0.1:1/");
    assert!(!nobody.err.contains("hunter2") && !nobody.out.contains("hunter2"), "{nobody:?}");
    assert_eq!(app.vault().await, before);
}

#[tokio::test]
async fn a_role_that_may_not_create_databases_is_told_what_to_do_and_changes_nothing() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table t (id integer primary key)");
    let (_service, app) = app(&database.url(), DEBIAN).await;
    app.back_up(&[]);
    let before = app.vault().await;
    let role = unique("narrow");
    server.role(&role, "");
    let url = server.url_of(&database.name, &role, "secret");
    let ended = app.run(&["drill", "--database", &url]).refuses(2, "may not create");
    assert!(ended.err.contains("CREATEDB") && ended.err.contains("--database"), "{}", ended.err);
    assert_eq!(app.vault().await, before);
}

#[tokio::test]
async fn an_interrupted_drill_removes_its_database_and_lets_the_point_go() {
    let server = Server::own(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(SLOW);
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let id = app.back_up(&[]);
    let running = filling(&app, &server, &id);
    running.interrupt();
    let ended = running.wait(LIMIT);
    assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(scratch(&server), Vec::<String>::new());
    let written = app.vault().await.into_keys().filter(|key| key.contains("-hold-") || key.contains("-released-"));
    assert_eq!(written.count(), 2, "the point is held still");
    assert_eq!(point(&app, &id)["state"], "proven");
}

#[tokio::test]
async fn what_a_killed_drill_left_on_the_server_goes_with_the_next_one() {
    let server = Server::own(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(SLOW);
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let (one, two) = (app.back_up(&[]), app.back_up(&[]));
    let running = filling(&app, &server, &one);
    running.kill();
    running.wait(LIMIT);
    assert_eq!(scratch(&server), [format!("nexus_drill_{one}")]);
    // Another point's drill takes it away, and says so.
    let told = app.run(&["drill", &two]).ends_with(0).says(&format!("removed nexus_drill_{one}"));
    assert!(told.out.contains("verified"), "{told:?}");
    assert_eq!(scratch(&server), Vec::<String>::new());
}

#[tokio::test]
async fn two_drills_at_once_do_not_take_each_others_databases_away() {
    let server = Server::own(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(SLOW);
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let (one, two) = (app.back_up(&[]), app.back_up(&[]));
    let running = filling(&app, &server, &one);
    app.run(&["drill", &one]).refuses(2, "is in use");
    verified(&app, &[&two]);
    let ended = running.wait(LIMIT);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(scratch(&server), Vec::<String>::new());
}

/// A policy names a role that the dump does not bring: another server may lack it, and the point is whole all the same.
#[tokio::test]
async fn what_another_server_lacks_is_no_damage_of_the_point() {
    let (server, other) = (Server::shared(DEBIAN), Server::shared(18));
    let role = unique("reader");
    server.role(&role, "");
    let database = Database::empty(&server, "");
    database.sql("create table t (id integer primary key); insert into t values (1)");
    database.sql(&format!("create policy p on t to {role} using (true)"));
    let (_service, app) = app(&database.url(), 18).await;
    let id = app.back_up(&[]);
    drill(&app, &[&id, "--database", &other.url("postgres")]).refuses(2, "does not exist");
    assert_eq!(app.points(), [(id, "proven".to_owned())]);
    assert_eq!(point(&app, &app.points()[0].0)["last_proof"]["verdict"], "could-not-verify");
}
