//! PostgreSQL: one instant under writers, and a way back that never leaves half a database.

use std::process::{Command, Stdio};
use std::time::Duration;

use nexus_sandbox::{Fault, FaultAt, Service};
use nexus_testkit::kill::Running;
use nexus_testkit::postgres::{Database, Server, majors, programs, rows, unique};
use serde_json::Value;

use crate::app::{App, sandbox};

/// The version that Debian brings, with all its extensions.
pub const DEBIAN: u32 = 15;

/// An application on a PostgreSQL database, with the client programs of one version.
pub async fn app(database: &str, client: u32) -> (Service, App) {
    let (service, endpoint) = sandbox();
    let app = App::bare(endpoint).await;
    configure(&app, database, client);
    (service, app)
}

pub fn configure(app: &App, database: &str, client: u32) {
    let (programs, bucket) = (programs(client), &app.bucket);
    app.write(
        "nexus.toml",
        &format!(
            "app = \"clinic\"\n[database]\nurl = \"{database}\"\nlock-wait = \"10s\"\nprograms = \"{}\"\n\
             [records]\nfolder = \"backups\"\n[vault]\nurl = \"s3://{bucket}/backup/\"\n",
            programs.display()
        ),
    );
}

fn manifest(app: &App, id: &str) -> Value {
    app.run(&["show", id, "--json"]).ends_with(0).json()["manifest"].clone()
}

/// The dump as it lies in the vault.
async fn fetched(app: &App, id: &str) -> std::path::PathBuf {
    let key = manifest(app, id)["parts"]["database"]["object"]["key"].as_str().expect("a key").to_owned();
    let path = app.path("fetched.dump");
    std::fs::write(&path, &app.vault().await[&key]).expect("room on the disk");
    path
}

async fn there_and_back(server: u32, client: u32) {
    let server = Server::shared(server);
    let (database, _, _) = Database::with_everything(&server);
    let (_service, app) = app(&database.url(), client).await;
    let before = database.digest();
    let id = app.back_up(&[]);
    assert_eq!(database.digest(), before, "the source was changed");
    let told = app.restore(&[&id]);
    assert_eq!(database.digest(), before);
    let kept = told["database"]["kept_as"].as_str().expect("the old one is kept").to_owned();
    assert!(server.databases().contains(&kept), "{told}");
    // Dropped, it is simply made again.
    server.sql("postgres", &format!("drop database \"{kept}\""));
    server.sql("postgres", &format!("drop database {} with (force)", database.name));
    let told = app.restore(&["latest"]);
    assert_eq!(told["database"]["kept_as"], Value::Null);
    assert_eq!(database.digest(), before);
    app.assert_no_litter();
}

#[tokio::test]
async fn everything_in_a_database_comes_back_on_every_version() {
    for major in majors() {
        there_and_back(major, major).await;
    }
}

#[tokio::test]
async fn a_newer_client_serves_an_older_server() {
    there_and_back(15, 16).await;
    there_and_back(16, 18).await;
}

#[tokio::test]
async fn a_point_of_an_older_server_is_restored_into_a_newer_one_and_not_the_other_way() {
    let (older, newer) = (Server::shared(15), Server::shared(18));
    let (database, owner, reader) = Database::with_everything(&older);
    let (_service, app) = app(&database.url(), 18).await;
    let id = app.back_up(&[]);
    let name = unique("moved");
    let target = newer.url(&name);
    let missing = app.run(&["restore", &id, "--to-database", &target, "--yes"]).refuses(2, "lacks");
    // Debian's extensions are not in the wheel's server, and neither are the roles.
    assert!(missing.err.contains("hstore"), "{}", missing.err);
    database.sql("drop extension hstore cascade");
    database.sql("drop extension citext cascade");
    database.sql("drop table marked");
    let id = app.back_up(&[]);
    app.run(&["restore", &id, "--to-database", &target, "--yes"]).refuses(2, "CREATE ROLE");
    newer.role(&owner, "");
    newer.role(&reader, "");
    app.restore(&[&id, "--to-database", &target]);
    assert_eq!(rows(&newer, &name), rows(&older, &database.name));
    configure(&app, &target, 18);
    let back = app.back_up(&[]);
    app.run(&["restore", &back, "--to-database", &older.url("backwards"), "--yes"]).refuses(2, "older server");
    newer.sql("postgres", &format!("drop database {name} with (force)"));
}

#[tokio::test]
async fn a_server_newer_than_every_client_is_refused_with_the_package_to_install() {
    let server = Server::shared(18);
    let database = Database::empty(&server, "");
    let (_service, app) = app(&database.url(), 15).await;
    // Only the named folder and the usual ones are looked into, and this machine has 15 there.
    let refused = app.run(&["backup"]).refuses(2, "postgresql-client-18");
    assert!(refused.err.contains("the newest here is 15"), "{}", refused.err);
    assert!(app.points().is_empty());
}

#[tokio::test]
async fn stock_pg_restore_reads_the_dump_as_it_lies_in_the_vault() {
    let server = Server::shared(DEBIAN);
    let (database, _, _) = Database::with_everything(&server);
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let id = app.back_up(&[]);
    let dump = fetched(&app, &id).await;
    let empty = Database::empty(&server, "");
    let restored = server
        .program("pg_restore")
        .args(["--exit-on-error", "-d", &empty.name])
        .arg(dump)
        .output()
        .expect("pg_restore");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(rows(&server, &empty.name), rows(&server, &database.name));
}

/// What a dump is made of: many tables, some of them empty, rows of several pieces of an archive, and large objects.
const OF_MANY_KINDS: &str = "
    do $$ begin for n in 1..40 loop
        execute format('create table many_%s (id integer primary key, said text)', n);
        execute format('insert into many_%s select g, md5(g::text) from generate_series(1, %s) g', n, n % 3 * n);
    end loop; end $$;
    create table wide (id integer primary key, same text, random bytea);
    insert into wide select n, repeat('the same ' || n, n * 100000),
        (select decode(string_agg(md5(random()::text), ''), 'hex') from generate_series(1, 20000) where n > 0)
      from generate_series(1, 3) n;
    create table long as select n as id, 'visit ' || n || ' of ' || md5(n::text) as said from generate_series(1, 30000) n;
    select lo_from_bytea(0, ''), lo_from_bytea(4294967295, '\\x00'), lo_from_bytea(2147483648, '\\x01'),
        lo_from_bytea(0, decode(repeat('0102ff00', 200000), 'hex')),
        lo_from_bytea(0, (select decode(string_agg(md5(random()::text), ''), 'hex') from generate_series(1, 30000)))";

#[tokio::test]
async fn stock_pg_restore_of_every_version_reads_a_dump_that_was_compressed_on_the_way() {
    let servers: Vec<Server> = majors().into_iter().map(Server::shared).collect();
    for (number, server) in servers.iter().enumerate() {
        let major = majors()[number];
        let database = Database::empty(server, "");
        database.sql(OF_MANY_KINDS);
        let (_service, app) = app(&database.url(), major).await;
        let id = app.back_up(&["--only", "database"]);
        let told = manifest(&app, &id)["parts"]["database"].clone();
        assert_eq!(told["postgres"]["compression"], "gzip", "{told}");
        let dump = fetched(&app, &id).await;
        let (there, objects) = (rows(server, &database.name), database.digest()["large objects"].clone());
        assert_eq!(objects.split(", ").count(), 5);
        let plain = server.program("pg_dump").args(["-Fc", "-Z0", "-d", &database.name]).output().expect("pg_dump");
        let (bytes, plain) = (std::fs::metadata(&dump).expect("a file").len(), plain.stdout.len() as u64);
        assert!(bytes < plain / 2, "{bytes} bytes of {plain} were left");
        let listed = server.program("pg_restore").arg("-l").arg(&dump).output().expect("pg_restore");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let named = if major < 16 { "Compression: 1" } else { "Compression: gzip" };
        assert!(listed.contains(named), "{listed}");
        for newer in &servers[number..] {
            let empty = Database::empty(newer, "");
            let mut restore = newer.program("pg_restore");
            let restored = restore.args(["--exit-on-error", "--jobs=2", "-d", &empty.name]).arg(&dump).output();
            let restored = restored.expect("pg_restore");
            assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
            assert_eq!(rows(newer, &empty.name), there);
            assert_eq!(empty.digest()["large objects"], objects);
        }
    }
}

/// Moves money between accounts and counts the moves in two tables, some hundred times a second.
fn bank(server: &Server, database: &Database<'_>) -> Vec<Running> {
    database.sql(
        "create table account (id integer primary key, balance bigint not null);
         create table counter (id integer primary key, moves bigint not null);
         create table moves (id bigserial primary key, at timestamptz default now());
         insert into account select g, 1000 from generate_series(1, 50) g;
         insert into counter values (1, 0);
         create procedure move_for_ever() language plpgsql as $$
         declare source integer; target integer;
         begin
             loop
                 source := 1 + floor(random() * 50);
                 target := 1 + floor(random() * 50);
                 update account set balance = balance - 1 where id = least(source, target);
                 update account set balance = balance + 1 where id = greatest(source, target);
                 update counter set moves = moves + 1;
                 insert into moves default values;
                 commit;
             end loop;
         end $$",
    );
    (0..2)
        .map(|_| {
            let mut command = server.psql(&database.name);
            command.args(["-c", "call move_for_ever()"]);
            Running::start(command)
        })
        .collect()
}

#[tokio::test]
async fn dump_records_and_counts_are_of_one_instant_under_a_writer() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    let writers = bank(&server, &database);
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let mut moves_before = 0;
    for _ in 0..20 {
        let id = app.back_up(&[]);
        let folder = app.path("backups").join(&id);
        let read = |table: &str| -> Vec<Value> {
            let text = std::fs::read_to_string(folder.join(format!("{table}.json"))).expect("records");
            serde_json::from_str(&text).expect("JSON")
        };
        let balances: i64 = read("account").iter().map(|row| row["balance"].as_i64().expect("a number")).sum();
        assert_eq!(balances, 50_000);
        let moves = read("moves").len() as u64;
        assert_eq!(read("counter")[0]["moves"].as_u64(), Some(moves));
        assert_eq!(manifest(&app, &id)["parts"]["database"]["tables"]["moves"].as_u64(), Some(moves));
        let dump = fetched(&app, &id).await;
        let copied = |table: &str| {
            let read = server.program("pg_restore").args(["--data-only", "--file=-", "-t", table]).arg(&dump).output();
            let read = String::from_utf8(read.expect("pg_restore").stdout).expect("UTF-8");
            let rows = read.lines().skip_while(|line| !line.starts_with("COPY ")).skip(1);
            rows.take_while(|line| *line != "\\.").map(str::to_owned).collect::<Vec<_>>()
        };
        // An account may be overdrawn.
        let second = |row: &String| -> i64 { row.split('\t').nth(1).expect("a column").parse().expect("a number") };
        assert_eq!(copied("account").iter().map(second).sum::<i64>(), 50_000);
        assert_eq!(copied("moves").len() as u64, moves);
        assert_eq!(second(&copied("counter")[0]), i64::try_from(moves).expect("a number"));
        assert!(moves > moves_before, "nobody writes");
        moves_before = moves;
    }
    writers.iter().for_each(Running::kill);
}

#[tokio::test]
async fn tables_that_are_emptied_or_made_meanwhile_are_neither_empty_nor_missed() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table victim (id integer primary key); insert into victim select generate_series(1, 1000)");
    // Empties and fills it again in one transaction, and makes tables, as fast as it can.
    database.sql(
        "create procedure churn() language plpgsql as $$
         declare n integer := 0;
         begin
             loop
                 truncate victim;
                 insert into victim select generate_series(1, 1000);
                 commit;
                 n := n + 1;
                 execute format('create table made%s (id integer); insert into made%s values (1)', n, n);
                 commit;
                 execute format('drop table made%s', n);
                 commit;
                 perform pg_sleep(0.5);
             end loop;
         end $$",
    );
    let mut command = server.psql(&database.name);
    command.args(["-c", "call churn()"]);
    let writer = Running::start(command);
    let (_service, app) = app(&database.url(), DEBIAN).await;
    for _ in 0..10 {
        let id = app.back_up(&[]);
        let tables = &manifest(&app, &id)["parts"]["database"]["tables"];
        assert_eq!(tables["victim"], 1000, "{tables}");
        let target = unique("churned");
        app.restore(&[&id, "--to-database", &server.url(&target)]);
        assert_eq!(server.sql(&target, "select count(*) from victim"), "1000");
        server.sql("postgres", &format!("drop database {target} with (force)"));
    }
    writer.kill();
}

#[tokio::test]
async fn a_table_that_is_locked_for_long_is_refused_naming_who_holds_it() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table held (id integer)");
    let mut command = server.psql(&database.name);
    command.env("PGAPPNAME", "migration");
    command.args(["-c", "begin; lock table held in access exclusive mode; select 'locked'; select pg_sleep(60)"]);
    let holder = Running::start(command);
    let locked = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and relation = 'held'::regclass";
    while database.sql(locked) == "0" {
        tokio::task::yield_now().await;
    }
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let refused = app.run(&["backup"]).refuses(2, "application migration, from 127.0.0.1, since 20");
    assert!(refused.err.contains("lock wait of 10 s"), "{}", refused.err);
    assert!(app.points().is_empty());
    holder.kill();
}

#[tokio::test]
async fn a_load_that_waits_for_a_table_in_vain_names_who_holds_it() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    database.sql("create table held (id integer primary key); insert into held values (1)");
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let id = app.back_up(&[]);
    let text = std::fs::read_to_string(app.path("nexus.toml")).expect("it was written");
    app.write("nexus.toml", &text.replace("10s", "1s"));
    let mut command = server.psql(&database.name);
    command.env("PGAPPNAME", "report");
    command.args(["-c", "begin; select * from held; select pg_sleep(60)"]);
    let holder = Running::start(command);
    let locked = "select count(*) from pg_locks l join pg_stat_activity a using (pid)
                   where l.relation = 'held'::regclass and a.application_name = 'report'";
    while database.sql(locked) == "0" {
        tokio::task::yield_now().await;
    }
    let words = ["restore", &id, "--table", "held", "--no-safety-point", "--yes"];
    app.run(&words).refuses(2, "application report, from 127.0.0.1, since 20");
    holder.kill();
}

#[tokio::test]
async fn a_pooler_is_refused() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    let folder = tempfile::tempdir().expect("a folder");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it listens").port();
    let users = folder.path().join("users");
    let password = std::env::var("NEXUS_TEST_POSTGRES_PASSWORD").expect("set by ./test");
    std::fs::write(&users, format!("\"{}\" \"{password}\"\n", server.superuser())).expect("room");
    let ini = folder.path().join("pgbouncer.ini");
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         auth_type = plain\nauth_file = {}\npool_mode = transaction\nunix_socket_dir =\n\
         ignore_startup_parameters = extra_float_digits\n",
        server.port,
        users.display()
    );
    std::fs::write(&ini, text).expect("room");
    let mut command = Command::new("/usr/sbin/pgbouncer");
    // It does not run as root either.
    if rustix_is_root() {
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/sbin/pgbouncer"]);
    }
    for path in [folder.path(), &users, &ini] {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("a mode");
    }
    let mut pooler = command.arg(&ini).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pgbouncer");
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(pooler.try_wait().expect("it was started here").is_none(), "pgbouncer ended");
        tokio::task::yield_now().await;
    }
    let through = database.url().replace(&format!(":{}/", server.port), &format!(":{port}/"));
    let (_service, app) = app(&through, DEBIAN).await;
    app.run(&["backup"]).refuses(2, "connection pooler");
    pooler.kill().expect("it runs");
    pooler.wait().expect("it was started here");
    assert!(app.points().is_empty());
}

fn rustix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

#[tokio::test]
async fn what_cannot_be_reached_is_refused_with_the_next_step() {
    let server = Server::shared(DEBIAN);
    let database = Database::empty(&server, "");
    let (_service, app) = app(&server.url("nobody_has_this"), DEBIAN).await;
    app.run(&["backup"]).refuses(2, "nobody_has_this");
    configure(&app, &server.url_of(&database.name, server.superuser(), "wrong-secret"), DEBIAN);
    let refused = app.run(&["backup"]).refuses(2, "password");
    assert!(!refused.err.contains("wrong-secret"), "{}", refused.err);
    configure(&app, &format!("postgres://nobody@127.0.0.1:{}/{}", server.port, database.name), DEBIAN);
    app.run(&["backup"]).refuses(2, "password");
    configure(&app, "postgres://x@127.0.0.1:1/x", DEBIAN);
    app.run(&["backup"]).refuses(2, "cannot reach");
    assert!(app.points().is_empty());
}

#[tokio::test]
async fn a_role_that_owns_the_database_and_no_more_can_back_it_up_and_bring_it_back() {
    let server = Server::shared(DEBIAN);
    let role = unique("keeper");
    server.role(&role, "createdb");
    let database = Database::empty(&server, &format!("owner {role}"));
    let url = server.url_of(&database.name, &role, "secret");
    server
        .sql(&database.name, &format!("set role {role}; create table kept (id integer); insert into kept values (1)"));
    server.sql(&database.name, "create table closed (id integer)");
    let (_service, app) = app(&url, DEBIAN).await;
    app.run(&["backup"]).refuses(2, "closed");
    database.sql("drop table closed");
    let before = database.digest();
    let id = app.back_up(&[]);
    database.sql("drop table kept");
    app.restore(&[&id]);
    assert_eq!(database.digest(), before);
    server.sql("postgres", &format!("drop owned by {role} cascade"));
}

#[tokio::test]
async fn a_role_that_may_not_create_databases_restores_in_place_in_one_transaction() {
    let server = Server::shared(DEBIAN);
    let role = unique("tenant");
    server.role(&role, "");
    let database = Database::empty(&server, &format!("owner {role}"));
    let as_role = |sql: &str| database.sql(&format!("set role {role}; {sql}"));
    // What belongs to an extension stays, and the comment on one that is another's is not this role's to make.
    database.sql("create extension hstore; create extension citext");
    as_role(
        "create schema \"odd schema\"; create type public.mood as enum ('ok'); create domain public.short as text;
         create table public.patient (id integer generated by default as identity primary key, mood mood, name short);
         create table \"odd schema\".\"a.b\" (id integer primary key, patient integer references patient, tags hstore);
         create view happy as select * from patient; create materialized view counted as select count(*) from patient;
         create function one() returns integer language sql as 'select 1'; create sequence loose;
         create procedure nothing() language plpgsql as 'begin end'; create publication told for table patient;
         create aggregate total (integer) (sfunc = int4pl, stype = integer);
         insert into patient (mood, name) values ('ok', 'a'), ('ok', 'b');
         insert into \"odd schema\".\"a.b\" values (1, 1, 'a=>1'); refresh materialized view counted;
         create table parted (id integer) partition by range (id);
         create table parted_1 partition of parted for values from (1) to (9); insert into parted values (1), (2);
         select lo_from_bytea(77, 'scan')",
    );
    let (_service, app) = app(&server.url_of(&database.name, &role, "secret"), DEBIAN).await;
    let before = database.digest();
    let id = app.back_up(&[]);
    app.run(&["restore", &id, "--yes"]).refuses(2, "--in-place");
    as_role(
        "drop table \"odd schema\".\"a.b\"; delete from patient; create schema newer; create table newer.x (id integer);
         create table another (id integer); create view in_the_way as select * from patient; alter table parted add x text;
         refresh materialized view counted; select lo_unlink(77); select lo_from_bytea(78, 'newer')",
    );
    let wrecked = database.digest();
    // A table that somebody else made could not be removed.
    database.sql("create table public.foreign_one (id integer)");
    app.run(&["restore", &id, "--in-place", "--yes"]).refuses(2, "foreign_one");
    database.sql("drop table public.foreign_one");
    let planned = app.run(&["restore", &id, "--in-place", "--dry-run", "--json"]).ends_with(0).json();
    assert_eq!(planned["safety_point_of"], serde_json::json!(["database"]), "{planned}");
    assert_eq!(database.digest(), wrecked);
    // Whoever reads a table keeps it from being removed: the wait is bounded and nothing has changed.
    let mut command = server.psql(&database.name);
    command.args(["-c", "begin; lock table patient in access share mode; select pg_sleep(60)"]);
    let holder = Running::start(command);
    while database.sql("select count(*) from pg_locks where relation = 'patient'::regclass") == "0" {
        tokio::task::yield_now().await;
    }
    app.run(&["restore", &id, "--in-place", "--yes"]).refuses(2, "--end-sessions");
    assert_eq!(database.digest(), wrecked);
    holder.kill();
    server.sql(
        "postgres",
        &format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'", database.name),
    );
    let told = app.restore(&[&id, "--in-place"]);
    assert_eq!(told["database"]["kept_as"], Value::Null);
    assert_eq!(database.digest(), before);
    // And back again, by the command it printed, to what was there before.
    let safety = told["safety_point"].as_str().expect("a safety point").to_owned();
    app.restore(&[&safety, "--in-place"]);
    assert_eq!(database.digest(), wrecked);
    server.sql("postgres", &format!("drop database {} with (force)", database.name));
}

#[tokio::test]
async fn a_restore_in_place_that_breaks_off_leaves_everything_as_it_was() {
    let mut server = Server::own(DEBIAN);
    server.sql("postgres", "create database live");
    server.sql("live", "create table t (id integer primary key, body text); insert into t select g, repeat(md5(g::text), 50) from generate_series(1, 30000) g");
    let (_service, app) = app(&server.url("live"), DEBIAN).await;
    let id = app.back_up(&[]);
    server.sql("live", "delete from t where id > 10; create table newer (id integer)");
    let filling = "select count(*) from pg_stat_activity where application_name like 'nexus%' and query like 'COPY%'";
    for kills_server in [false, true] {
        let mut running = app.start(&["restore", &id, "--in-place", "--yes", "--no-safety-point"]);
        while server.sql("postgres", filling) == "0" {
            assert!(running.ended_within(Duration::ZERO).is_none(), "it ended before it was killed");
        }
        if kills_server {
            server.kill();
            crate::app::Ended::of(running.wait(Duration::from_mins(2))).ends_with(2).says("hint: ");
            server.restart();
        } else {
            running.kill();
            while server.sql("postgres", "select count(*) from pg_stat_activity where application_name like 'nexus%'")
                != "0"
            {}
        }
        assert_eq!(server.sql("live", "select count(*) from t"), "10");
        assert_eq!(server.sql("live", "select count(*) from newer"), "0");
    }
    app.restore(&[&id, "--in-place"]);
    assert_eq!(server.sql("live", "select count(*) from t"), "30000");
    assert_eq!(server.sql("live", "select to_regclass('newer') is null"), "t");
}

#[tokio::test]
async fn a_policy_that_hides_rows_stops_the_backup() {
    let server = Server::shared(DEBIAN);
    let (role, reader) = (unique("hidden"), unique("seer"));
    server.role(&role, "");
    server.role(&reader, "");
    let database = Database::empty(&server, "");
    database.sql(&format!(
        "create table ward (id integer, owner name); insert into ward values (1, 'x'), (2, '{reader}');
         alter table ward enable row level security; create policy own on ward using (owner = current_user);
         grant select on ward to {reader}"
    ));
    let (_service, app) = app(&server.url_of(&database.name, &reader, "secret"), DEBIAN).await;
    app.run(&["backup"]).refuses(2, "row-level security");
    assert!(app.points().is_empty());
}

#[tokio::test]
async fn sessions_are_in_the_way_until_their_end_is_asked_for() {
    let server = Server::shared(DEBIAN);
    let (database, _, _) = Database::with_everything(&server);
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let before = database.digest();
    let id = app.back_up(&[]);
    // A pool that comes back as soon as it is thrown out.
    let url = database.url();
    let script = format!(
        "while true; do PGAPPNAME=pool {} -X -q -d '{url}' -c 'select pg_sleep(60)' || true; done",
        server.bin.join("psql").display()
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]);
    let pool = Running::start(command);
    let inside = format!(
        "select count(*) from pg_stat_activity where application_name = 'pool' and datname = '{}'",
        database.name
    );
    while server.sql("postgres", &inside) == "0" {
        tokio::task::yield_now().await;
    }
    let refused = app.run(&["restore", &id, "--yes"]).refuses(2, "application pool");
    assert!(refused.err.contains("--end-sessions"), "{}", refused.err);
    assert_eq!(database.digest(), before);
    app.restore(&[&id, "--end-sessions"]);
    pool.kill();
    server.sql("postgres", "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pool'");
    assert_eq!(database.digest(), before);
}

#[tokio::test]
async fn a_dump_that_breaks_off_leaves_no_object_and_no_open_upload() {
    let mut server = Server::own(DEBIAN);
    server.sql("postgres", "create database big");
    server.sql("big", "create table blob (id integer primary key, body bytea)");
    server.sql("big", "insert into blob select g, decode(string_agg(md5(random()::text), ''), 'hex') from generate_series(1, 120) g, generate_series(1, 30000) group by g");
    let (service, app) = app(&server.url("big"), DEBIAN).await;
    // The third part never gets its answer: the dump is in full flow.
    service.inject(Fault::Stall, FaultAt::Operation { name: "UploadPart".to_owned(), nth: 2 });
    let running = app.start(&["backup"]);
    while service.faults_fired() == 0 {
        tokio::task::yield_now().await;
    }
    service.clear_faults();
    server.kill();
    let ended = crate::app::Ended::of(running.wait(Duration::from_mins(2)));
    ended.ends_with(2).says("hint: ");
    assert!(app.vault().await.keys().all(|key| !key.contains("postgres_backup")), "an object was left");
    assert_eq!(service.store().open_uploads(&app.bucket), 0);
    assert!(app.points().iter().all(|(_, state)| state != "proven"));
    app.assert_no_litter();
    server.restart();
    app.back_up(&[]);
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_the_live_database_as_it_was_and_can_be_run_again() {
    let server = Server::shared(DEBIAN);
    let (database, _, _) = Database::with_everything(&server);
    let (_service, app) = app(&database.url(), DEBIAN).await;
    let id = app.back_up(&[]);
    database.sql("delete from numbers; create table newer (id integer)");
    let wrecked = database.digest();
    let fresh = format!("{}_restore_%", database.name);
    let filling = format!("select count(*) from pg_database where datname like '{fresh}'");
    let mut running = app.start(&["restore", &id, "--yes"]);
    while server.sql("postgres", &filling) == "0" {
        assert!(running.ended_within(Duration::ZERO).is_none(), "it ended before it was killed");
    }
    running.kill();
    assert_eq!(database.digest(), wrecked);
    app.restore(&[&id]);
    assert!(database.sql("select count(*) from numbers") == "6");
    assert_eq!(server.sql("postgres", &filling), "0", "an unfinished database was left");
    for name in server.databases().iter().filter(|name| name.starts_with(&format!("{}_before", database.name))) {
        server.sql("postgres", &format!("drop database \"{name}\""));
    }
}

#[tokio::test]
async fn a_restore_whose_server_dies_leaves_the_live_database_as_it_was() {
    let mut server = Server::own(DEBIAN);
    server.sql("postgres", "create database live");
    server.sql("live", "create table t (id integer primary key, body text); insert into t select g, repeat(md5(g::text), 50) from generate_series(1, 30000) g");
    let (_service, app) = app(&server.url("live"), DEBIAN).await;
    let id = app.back_up(&[]);
    server.sql("live", "delete from t where id > 10");
    let running = app.start(&["restore", &id, "--yes"]);
    while server.sql("postgres", "select count(*) from pg_database where datname like 'live_restore_%'") == "0" {}
    server.kill();
    crate::app::Ended::of(running.wait(Duration::from_mins(2))).ends_with(2).says("hint: ");
    server.restart();
    assert_eq!(server.sql("live", "select count(*) from t"), "10");
    app.restore(&[&id]);
    assert_eq!(server.sql("live", "select count(*) from t"), "30000");
    assert!(server.databases().iter().all(|name| !name.starts_with("live_restore_")));
}

#[tokio::test]
async fn damage_to_a_dump_is_found_and_refused_before_anything_is_touched() {
    let server = Server::shared(DEBIAN);
    let (database, _, _) = Database::with_everything(&server);
    let (service, app) = app(&database.url(), DEBIAN).await;
    let id = app.back_up(&[]);
    let before = server.databases();
    let object = manifest(&app, &id)["parts"]["database"]["object"].clone();
    let key = format!("backup/{}", object["key"].as_str().expect("a key"));
    let whole = service.store().get(&app.bucket, &key).expect("it is there").body.to_vec();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for harmed in [flipped, whole[..whole.len() / 2].to_vec()] {
        service.store().put(&app.bucket, &key, nexus_sandbox::NewObject::new(harmed)).expect("the bucket is there");
        app.run(&["verify", &id]).ends_with(1);
        app.run(&["restore", &id, "--yes"]).ends_with(1).says("not as it was written");
        assert_eq!(server.databases(), before);
    }
}
