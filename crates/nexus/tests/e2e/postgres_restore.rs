//! The way back into PostgreSQL: nothing that is there is touched before all that can fail has been tried, and what is told
//! is what happened.

use std::time::Duration;

use nexus_testkit::kill::Running;
use nexus_testkit::postgres::{Database, Server, unique};

use crate::app::{App, Ended};
use crate::postgres::{DEBIAN, app, configure};

/// A run that waits for others on the server may take as long.
const LIMIT: Duration = Duration::from_mins(2);

/// A table with twenty rows whose restore takes some seconds: an index asks a function that waits in a new database.
const SLOW: &str = "
    create table t (id integer primary key);
    insert into t select generate_series(1, 20);
    create function slow(integer) returns integer immutable language plpgsql as $$
    begin
        if current_database() like '%\\_restore\\_%' then perform pg_sleep(0.2); end if;
        return $1;
    end $$;
    create index slowly on t (slow(id))";

/// The databases that a restore of this one has made and not yet given its name.
fn unfinished(server: &Server, name: &str) -> Vec<String> {
    server.databases().into_iter().filter(|other| other.starts_with(&format!("{name}_restore_"))).collect()
}

fn drop_kept(server: &Server, name: &str) {
    for kept in server.databases().iter().filter(|other| other.starts_with(&format!("{name}_before"))) {
        server.sql("postgres", &format!("drop database \"{kept}\""));
    }
}

/// A restore that is filling its new database.
fn filling(app: &App, server: &Server, name: &str, words: &[&str]) -> Running {
    let mut running = app.start(words);
    let working = format!(
        "select count(*) from pg_stat_activity where datname like '{name}\\_restore\\_%' and query ilike 'create index%'"
    );
    while server.sql("postgres", &working) == "0" {
        assert!(running.ended_within(Duration::ZERO).is_none(), "it ended before it filled anything");
    }
    running
}

#[tokio::test]
async fn a_setting_that_reads_like_sql_is_a_setting() {
    let server = Server::shared(DEBIAN);
    let role = unique("evil");
    server.role(&role, "");
    let database = Database::empty(&server, "");
    let name = &database.name;
    // Everybody may set this for themselves.
    database.sql(&format!(
        "set role {role}; select set_config('search_path', 'x;alter/**/role/**/{role}/**/superuser', false);
         alter role {role} in database {name} set search_path from current"
    ));
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let id = app.back_up(&[]);
    app.restore(&[&id]);
    let raised = server.sql("postgres", &format!("select rolsuper from pg_roles where rolname = '{role}'"));
    assert_eq!(raised, "f", "a stored text was run as SQL");
    let kept = server.sql(
        "postgres",
        &format!(
            "select s.setconfig[1] from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
              where d.datname = '{name}'"
        ),
    );
    assert_eq!(kept, format!("search_path=\"x;alter/**/role/**/{role}/**/superuser\""));
    drop_kept(&server, name);
}

#[tokio::test]
async fn a_restore_that_says_it_failed_has_swapped_nothing() {
    let server = Server::shared(DEBIAN);
    let role = unique("keeper");
    server.role(&role, "createdb");
    server.sql("postgres", &format!("grant pg_monitor to {role}"));
    let database = Database::empty(&server, &format!("owner {role}"));
    let name = &database.name;
    database.sql(&format!("set role {role}; {SLOW}"));
    let (_service, app) = app(&server.url_of(name, &role, "secret"), DEBIAN).await;
    let id = app.back_up(&[]);
    database.sql("delete from t where id > 5");
    // Somebody comes after the plan whom this role may not end: for long, then for a moment.
    for (seconds, status, rows) in [(60, 2, "5"), (5, 0, "20")] {
        let running = filling(&app, &server, name, &["restore", &id, "--yes", "--end-sessions"]);
        let mut command = server.psql(name);
        command.args(["-c", &format!("select pg_sleep({seconds})")]);
        let superuser = Running::start(command);
        let ended = Ended::of(running.wait(LIMIT)).ends_with(status);
        assert_eq!(database.sql("select count(*) from t"), rows, "{}", ended.err);
        assert_eq!(unfinished(&server, name), Vec::<String>::new());
        if status == 2 {
            ended.says("cannot be ended").says("hint: ");
        }
        superuser.kill();
        server.sql(
            "postgres",
            &format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"),
        );
    }
    drop_kept(&server, name);
}

#[tokio::test]
async fn one_restore_at_a_time_fills_a_database() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(SLOW);
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let id = app.back_up(&[]);
    database.sql("delete from t");
    let first = filling(&app, &server, &database.name, &["restore", &id, "--yes"]);
    app.run(&["restore", &id, "--yes"]).refuses(2, "another restore");
    Ended::of(first.wait(LIMIT)).ends_with(0);
    assert_eq!(database.sql("select count(*) from t"), "20");
    assert_eq!(unfinished(&server, &database.name), Vec::<String>::new());
    drop_kept(&server, &database.name);
}

/// Command lines of the processes of this machine that name a database.
fn processes_at(name: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("this is Linux").filter_map(Result::ok);
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&format!("dbname='{name}"))).collect()
}

#[tokio::test]
async fn an_interrupted_restore_leaves_no_database_and_nobody_at_work() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql(SLOW);
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let id = app.back_up(&[]);
    let running = filling(&app, &server, &database.name, &["restore", &id, "--yes"]);
    let made = unfinished(&server, &database.name).pop().expect("it is being filled");
    assert!(!processes_at(&made).is_empty());
    running.interrupt();
    Ended::of(running.wait(LIMIT)).ends_with(130).says(&made);
    assert_eq!(unfinished(&server, &database.name), Vec::<String>::new());
    assert_eq!(processes_at(&made), Vec::<String>::new());
    assert_eq!(database.sql("select count(*) from t"), "20");
}

#[tokio::test]
async fn a_role_that_may_only_use_something_need_not_be_the_restorer_s() {
    let server = Server::shared(DEBIAN);
    let (role, reader, gone) = (unique("keeper"), unique("reader"), unique("gone"));
    server.role(&role, "createdb");
    server.role(&reader, "");
    server.role(&gone, "");
    let database = Database::empty(&server, &format!("owner {role}"));
    let name = &database.name;
    database.sql(&format!(
        "create extension hstore; set role {role}; create table kept (id integer); grant select on kept to {reader};
         create table seen (id integer); alter table seen enable row level security;
         create policy by_reader on seen to {reader} using (true);
         grant connect on database {name} to {reader}"
    ));
    let (_service, app) = app(&server.url_of(name, &role, "secret"), DEBIAN).await;
    database.sql("drop extension hstore");
    let before = database.digest();
    let id = app.back_up(&[]);
    app.restore(&[&id]);
    assert_eq!(database.digest(), before);
    drop_kept(&server, name);
    // Whoever may use only the database itself is looked for as well.
    server.sql("postgres", &format!("grant connect on database {name} to {gone}"));
    let id = app.back_up(&[]);
    server.sql("postgres", &format!("revoke connect on database {name} from {gone}; drop role {gone}"));
    app.run(&["restore", &id, "--yes"]).refuses(2, &format!("CREATE ROLE \"{gone}\""));
}

#[tokio::test]
async fn a_member_who_may_not_make_a_role_an_owner_is_refused_by_the_plan() {
    let server = Server::shared(18);
    let (role, owner) = (unique("keeper"), unique("owner"));
    server.role(&role, "createdb");
    server.role(&owner, "");
    server.sql("postgres", &format!("grant {owner} to {role} with set false, inherit true"));
    let database = Database::empty(&server, &format!("owner {role}"));
    database.sql(&format!(
        "create schema theirs authorization {owner}; set role {owner}; create table theirs.t (id integer)"
    ));
    let (_service, app) = app(&server.url_of(&database.name, &role, "secret"), 18).await;
    let id = app.back_up(&[]);
    app.run(&["restore", &id, "--yes"]).refuses(2, &format!("no member of {owner}"));
    server.sql("postgres", &format!("grant {owner} to {role} with set true"));
    app.restore(&[&id]);
    drop_kept(&server, &database.name);
}

/// An application on a PostgreSQL database and a file, both backed up; then both change.
async fn with_a_file(server: &Server, sql: &str) -> (nexus_sandbox::Service, App, String, String) {
    let name = unique("app");
    server.sql("postgres", &format!("create database {name}"));
    server.sql(&name, sql);
    let (service, app) = app(&server.url(&name), DEBIAN).await;
    let (bucket, text) = (&app.bucket, std::fs::read_to_string(app.path("nexus.toml")).expect("it was written"));
    app.write("nexus.toml", &format!("{text}[files]\nsource = \"s3://{bucket}\"\n"));
    app.put("scan", b"as it was").await;
    let id = app.back_up(&[]);
    app.put("scan", b"as it is").await;
    (service, app, name, id)
}

#[tokio::test]
async fn a_dump_that_cannot_be_restored_leaves_the_files_alone() {
    let server = Server::shared(DEBIAN);
    // A function that finds its table only by the search path: no dump of it can be restored.
    let (_service, app, name, id) = with_a_file(
        &server,
        "create table rate (id integer primary key, value integer); insert into rate values (1, 7);
         create function rated(integer) returns integer immutable language plpgsql
             as 'begin return (select value from rate where id = $1); end';
         create table bill (id integer primary key, rate integer); insert into bill values (1, 1);
         create index by_rate on bill (rated(rate))",
    )
    .await;
    let before = app.files().await;
    app.run(&["restore", &id, "--yes"]).refuses(2, "rate");
    assert_eq!(app.files().await, before, "files were put back");
    assert_eq!(unfinished(&server, &name), Vec::<String>::new());
    server.sql("postgres", &format!("drop database {name}"));
}

#[tokio::test]
async fn files_that_cannot_be_put_back_leave_no_new_database() {
    let server = Server::shared(DEBIAN);
    let (_service, app, name, id) = with_a_file(&server, SLOW).await;
    server.sql(&name, "delete from t");
    let running = filling(&app, &server, &name, &["restore", &id, "--yes", "--no-safety-point"]);
    let copy = app.vault().await.into_keys().find(|key| key.starts_with(&id) && key.ends_with("/scan"));
    app.delete(&format!("backup/{}", copy.expect("a copy of the file"))).await;
    let ended = Ended::of(running.wait(LIMIT));
    assert_ne!(ended.status, Some(0), "{}", ended.err);
    assert_eq!(server.sql(&name, "select count(*) from t"), "0");
    assert_eq!(unfinished(&server, &name), Vec::<String>::new());
    server.sql("postgres", &format!("drop database {name}"));
}

#[tokio::test]
async fn what_would_stop_the_swap_is_refused_by_the_plan() {
    let mut server = Server::own(DEBIAN);
    server.sql("postgres", "alter system set max_prepared_transactions = 5");
    server.kill();
    server.restart();
    server.role("keeper", "createdb");
    server.sql("postgres", "create database live");
    server.sql("live", "create table t (id integer)");
    let (_service, app) = app(&server.url("live"), DEBIAN).await;
    let id = app.back_up(&[]);
    configure(&app, &server.url_of("live", "keeper", "secret"), DEBIAN);
    app.run(&["restore", &id, "--yes", "--no-owner"]).refuses(2, "belongs to the role");
    configure(&app, &server.url("live"), DEBIAN);
    server.sql("live", "begin; insert into t values (1); prepare transaction 'stuck'");
    app.run(&["restore", &id, "--yes", "--end-sessions"]).refuses(2, "ROLLBACK PREPARED 'stuck'");
    server.sql("live", "rollback prepared 'stuck'");
    // Whoever may not end a superuser's session is told so before anybody is shut out.
    server.sql("postgres", "alter database live owner to keeper");
    let mut command = server.psql("live");
    command.args(["-c", "select pg_sleep(60)"]);
    let superuser = Running::start(command);
    while server.sql("postgres", "select count(*) from pg_stat_activity where datname = 'live'") == "0" {}
    configure(&app, &server.url_of("live", "keeper", "secret"), DEBIAN);
    app.run(&["restore", &id, "--yes", "--no-owner", "--end-sessions"]).refuses(2, "cannot be ended");
    superuser.kill();
}

#[tokio::test]
async fn a_dump_of_a_newer_client_is_refused_with_the_reason() {
    // Of this version only the folder that is named has programs.
    let server = Server::shared(16);
    let database = Database::empty(&server, "");
    let (_service, app) = app(&database.url(), 18).await;
    let id = app.back_up(&[]);
    configure(&app, &database.url(), 16);
    let refused = app.run(&["restore", &id, "--yes"]).refuses(2, "made by pg_dump 18");
    assert!(!refused.err.contains("PostgreSQL 18 server"), "{}", refused.err);
}

#[tokio::test]
async fn tablespaces_and_being_a_template_come_back_and_their_loss_is_told() {
    let server = Server::own(DEBIAN);
    for name in ["fast", "slow"] {
        let mut command = server.psql("postgres");
        command.env("PGOPTIONS", "-c allow_in_place_tablespaces=on");
        let made = command.args(["-c", &format!("create tablespace {name} location ''")]).status();
        assert!(made.expect("psql").success());
    }
    server.sql("postgres", "create database live tablespace fast is_template true");
    server.sql("live", "create table t (id integer) tablespace slow; insert into t values (1)");
    let (_service, app) = app(&server.url("live"), DEBIAN).await;
    let id = app.back_up(&[]);
    let told = app.restore(&[&id]);
    assert_eq!(told["database"]["not_kept"], serde_json::json!([]), "{told}");
    let database = "select spcname, datistemplate from pg_database d join pg_tablespace t on t.oid = d.dattablespace
                     where datname = 'live'";
    assert_eq!(server.sql("postgres", database), "fast|t");
    let table = "select spcname from pg_class c join pg_tablespace t on t.oid = c.reltablespace where relname = 't'";
    assert_eq!(server.sql("live", table), "slow");
    // On a server without them it comes back all the same.
    let kept = told["database"]["kept_as"].as_str().expect("the old one is kept").to_owned();
    for name in ["live", &kept] {
        server.sql("postgres", &format!("alter database \"{name}\" is_template false"));
        server.sql("postgres", &format!("drop database \"{name}\""));
    }
    server.sql("postgres", "drop tablespace fast");
    server.sql("postgres", "drop tablespace slow");
    let told = app.restore(&[&id]);
    let unkept = told["database"]["not_kept"].to_string();
    assert!(unkept.contains("fast") && unkept.contains("slow"), "{unkept}");
    assert_eq!(server.sql("live", "select count(*) from t"), "1");
}

#[tokio::test]
async fn the_way_back_that_is_told_leads_to_the_database_of_before() {
    let server = Server::shared(DEBIAN);
    let (database, _, _) = Database::with_everything(&server);
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let id = app.back_up(&[]);
    database.sql("delete from numbers; create table newer (id integer)");
    let wrecked = database.digest();
    let told = app.restore(&[&id]);
    assert_ne!(database.digest(), wrecked);
    for statement in told["database"]["go_back"].as_array().expect("a list") {
        server.sql("postgres", statement.as_str().expect("SQL"));
    }
    assert_eq!(database.digest(), wrecked);
    let undone = server.databases().into_iter().find(|name| name.starts_with(&format!("{}_undone", database.name)));
    server.sql("postgres", &format!("drop database \"{}\"", undone.expect("the restored one is kept")));
}

#[tokio::test]
async fn a_restore_for_which_the_server_has_no_room_leaves_the_live_database_as_it_was() {
    let server = Server::own(DEBIAN);
    server.sql("postgres", "create database live");
    server.sql(
        "live",
        "create table t (id integer primary key, body text);
         insert into t select g, repeat(md5(g::text), 50) from generate_series(1, 30000) g",
    );
    let (_service, app) = app(&server.url("live"), DEBIAN).await;
    let id = app.back_up(&[]);
    server.sql("live", "delete from t where id > 10; create table newer (id integer)");
    for more in [&["--no-safety-point"][..], &["--no-safety-point", "--in-place"]] {
        server.limit_files(Some(24 << 20));
        let words: Vec<&str> = ["restore", id.as_str(), "--yes"].iter().chain(more).copied().collect();
        app.run(&words).ends_with(2).says("could not extend file").says("hint: ");
        server.limit_files(None);
        assert_eq!(server.sql("live", "select count(*) from t"), "10");
        assert_eq!(server.sql("live", "select count(*) from newer"), "0");
        assert!(unfinished(&server, "live").is_empty());
    }
    app.restore(&[&id]);
    assert_eq!(server.sql("live", "select count(*) from t"), "30000");
}
