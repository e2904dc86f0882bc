//! `PostgreSQL` servers that `./test` started, databases of their own for a test, and what they say.
//!
//! Everything goes through `psql` and `pg_dump`: no line of it is shared with the tool.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// A database with every built-in family of types and every kind of object.
const EVERYTHING: &str = include_str!("../sql/everything.sql");
/// The user as whom servers run, when the tests run as root.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub major: u32,
    pub port: u16,
    /// The folder with `psql`, `pg_dump` …
    pub bin: PathBuf,
    user: String,
    password: String,
    own: Option<Own>,
}

/// A server that one test started for itself.
#[derive(Debug)]
struct Own {
    child: Child,
    folder: tempfile::TempDir,
}

/// A database of one test; it is dropped with this.
#[derive(Debug)]
pub struct Database<'a> {
    pub server: &'a Server,
    pub name: String,
}

/// The versions that are here.
pub fn majors() -> Vec<u32> {
    let text = variable("NEXUS_TEST_POSTGRES_MAJORS");
    text.split(' ').map(|major| major.parse().expect("a number")).collect()
}

/// The folder of a version's programs.
pub fn programs(major: u32) -> PathBuf {
    PathBuf::from(variable(&format!("NEXUS_TEST_POSTGRES_{major}_BIN")))
}

/// A name that no other test of any run uses.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}_{:08x}", RandomState::new().hash_one(std::process::id()) >> 32)
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this through ./test"))
}

impl Server {
    /// The server of this version that all tests share.
    pub fn shared(major: u32) -> Self {
        Self {
            major,
            port: variable(&format!("NEXUS_TEST_POSTGRES_{major}")).parse().expect("a port"),
            bin: programs(major),
            user: variable("NEXUS_TEST_POSTGRES_USER"),
            password: variable("NEXUS_TEST_POSTGRES_PASSWORD"),
            own: None,
        }
    }

    /// A server for one test, which may kill it.
    pub fn own(major: u32) -> Self {
        let template = PathBuf::from(variable(&format!("NEXUS_TEST_POSTGRES_{major}_FOLDER"))).join("template");
        let folder = tempfile::Builder::new().prefix("nexus-postgres-").tempdir().expect("a folder");
        let owner = std::fs::metadata(&template).expect("the template is there");
        let data = folder.path().join("data");
        let copied = Command::new("cp").arg("-a").arg(&template).arg(&data).status().expect("cp");
        assert!(copied.success());
        std::os::unix::fs::chown(folder.path(), Some(owner.uid()), Some(owner.gid()))
            .expect("the right to give it away");
        let port = free_port();
        let child = start(&programs(major), folder.path(), port, owner.uid(), owner.gid());
        let mut server = Self::shared(major);
        server.port = port;
        server.own = Some(Own { child, folder });
        server.wait();
        server
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.psql("postgres").args(["-c", "select 1"]).output().expect("psql").status.success() {
            assert!(Instant::now() < deadline, "the server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        let own = self.own.as_mut().expect("a server of this test's own");
        signal(&own.child, "QUIT");
        own.child.wait().expect("it was started here");
    }

    /// Starts it again after [`Server::kill`].
    pub fn restart(&mut self) {
        let (major, port) = (self.major, self.port);
        let own = self.own.as_mut().expect("a server of this test's own");
        let owner = std::fs::metadata(own.folder.path()).expect("its folder");
        own.child = start(&programs(major), own.folder.path(), port, owner.uid(), owner.gid());
        self.wait();
    }

    /// Lets no file of the server grow beyond this from the next session on, as a full disk would; none: as before.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let own = self.own.as_ref().expect("a server of this test's own");
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let pid = own.child.id().to_string();
        let mut command = Command::new("prlimit");
        // The soft limit alone: it may be raised again, by whoever runs the server.
        command.args([format!("--fsize={limit}:"), format!("--pid={pid}")]);
        if rustix::process::geteuid().is_root() {
            let owner = std::fs::metadata(own.folder.path()).expect("its folder");
            command.uid(owner.uid()).gid(owner.gid());
        }
        assert!(command.status().expect("prlimit, of util-linux").success());
    }

    /// Where a database is, with the superuser's name and password.
    pub fn url(&self, database: &str) -> String {
        self.url_of(database, &self.user, &self.password)
    }

    /// Where a database is, for a role.
    pub fn url_of(&self, database: &str, user: &str, password: &str) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (user, password, database) = (encoded(user), encoded(password), encoded(database));
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The superuser's name.
    pub fn superuser(&self) -> &str {
        &self.user
    }

    /// The superuser as variables before a shell command.
    pub fn as_superuser(&self) -> String {
        format!("PGUSER='{}' PGPASSWORD='{}'", self.user, self.password)
    }

    /// One of this version's programs, set up to reach this server.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env_clear().env("PGPASSWORD", &self.password).env("PGUSER", &self.user);
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGCLIENTENCODING", "UTF8");
        command
    }

    /// `psql` in a database, quiet, stopping at the first error.
    pub fn psql(&self, database: &str) -> Command {
        let mut command = self.program("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database]).stdin(Stdio::null());
        command
    }

    /// Runs SQL in a database and answers what it gives, a line a row.
    #[track_caller]
    pub fn sql(&self, database: &str, text: &str) -> String {
        said(self.psql(database).args(["-c", text]))
    }

    /// The names of all databases.
    pub fn databases(&self) -> Vec<String> {
        let text = self.sql("postgres", "select datname from pg_database where not datistemplate order by 1");
        text.lines().map(str::to_owned).collect()
    }

    /// A role that may log in with the password `secret`, made when it is not there.
    pub fn role(&self, name: &str, more: &str) {
        self.sql("postgres", &format!("create role \"{name}\" login password 'secret' {more}"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            signal(&own.child, "QUIT");
            // It was ours to end; there is nobody to tell.
            let _ = own.child.wait();
        }
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.is_ok());
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it listens").port()
}

fn start(bin: &Path, folder: &Path, port: u16, uid: u32, gid: u32) -> Child {
    let mut command = Command::new(bin.join("postgres"));
    command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string(), "-k"]).arg(folder).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if rustix::process::geteuid().is_root() {
        command.uid(uid).gid(gid);
    }
    command.spawn().unwrap_or_else(|cause| panic!("cannot start PostgreSQL as {ACCOUNTS:?}: {cause}"))
}

#[track_caller]
fn said(command: &mut Command) -> String {
    let output = command.output().expect("the program is there");
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim_end_matches('\n').to_owned()
}

impl<'a> Database<'a> {
    /// An empty database; `more` is added to `CREATE DATABASE`.
    pub fn empty(server: &'a Server, more: &str) -> Self {
        let name = unique("app");
        server.sql("postgres", &format!("create database {name} {more}"));
        Self { server, name }
    }

    /// A database with everything in it, and the names of the two roles that own and may read some of it.
    pub fn with_everything(server: &'a Server) -> (Self, String, String) {
        let (owner, reader) = (unique("Owner of it"), unique("reader"));
        server.role(&owner, "");
        server.role(&reader, "");
        let database = Self::empty(server, "");
        let mut command = server.psql(&database.name);
        command.args(["-v", &format!("owner={owner}"), "-v", &format!("reader={reader}"), "-f", "-"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("psql");
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), EVERYTHING.as_bytes()).expect("psql reads");
        let output = child.wait_with_output().expect("psql");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // What the wheels' servers lack is made where it is.
        if server.psql(&database.name).args(["-c", "select '<a/>'::xml"]).output().expect("psql").status.success() {
            database.sql(
                "create table marked (id integer primary key, body xml);
                 insert into marked values (1, '<a b=\"c\">d</a>'), (2, 'text only'), (3, null)",
            );
        }
        for extension in ["hstore", "citext"] {
            let there = format!("select count(*) from pg_available_extensions where name = '{extension}'");
            if database.sql(&there) == "1" {
                database.sql(&format!("create extension {extension}"));
                database.sql(&format!(
                    "create table of_{extension} (id integer primary key, value {extension});
                     insert into of_{extension} values (1, 'a=>1'), (2, null)"
                ));
            }
        }
        let name = &database.name;
        database.sql(&format!("comment on database {name} is 'it''s the \\clinic'"));
        database.sql(&format!("alter database {name} set search_path = public, \"Odd. \"\"schema\"\"\""));
        database.sql(&format!("alter database {name} set work_mem = '5MB'"));
        database.sql(&format!("alter role \"{owner}\" in database {name} set application_name = 'it''s \\ odd'"));
        database.sql(&format!("grant connect on database {name} to \"{reader}\" with grant option"));
        database.sql(&format!("revoke temporary on database {name} from public"));
        database.sql(&format!("alter database {name} connection limit 33"));
        database.sql(&format!("alter database {name} owner to \"{owner}\""));
        (database, owner, reader)
    }

    /// Runs SQL and answers what it gives.
    #[track_caller]
    pub fn sql(&self, text: &str) -> String {
        self.server.sql(&self.name, text)
    }

    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// What it says: each table's rows as text whatever their order, the schema, sequences, large objects, and the
    /// database's own properties.
    pub fn digest(&self) -> BTreeMap<String, String> {
        digest(self.server, &self.name)
    }

    pub fn exists(&self) -> bool {
        self.server.databases().contains(&self.name)
    }
}

/// The rows alone, by table.
pub fn rows(server: &Server, name: &str) -> BTreeMap<String, String> {
    let tables = server.sql(
        name,
        "select quote_ident(n.nspname) || '.' || quote_ident(c.relname) from pg_class c
           join pg_namespace n on n.oid = c.relnamespace
          where c.relkind in ('r', 'p', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
            and (c.relkind <> 'm' or c.relispopulated) order by 1",
    );
    let mut digest = BTreeMap::new();
    for table in tables.lines() {
        // Text is compared byte by byte, in one time zone, and a policy must not hide rows.
        let sql = format!(
            "set row_security = off; set timezone = 'UTC'; set extra_float_digits = 3; set search_path = pg_catalog;
             select count(*) || ' ' || coalesce(md5(string_agg(t::text, E'\\n' order by t::text collate \"C\")), '')
               from {table} t"
        );
        digest.insert(format!("rows of {table}"), server.sql(name, &sql));
    }
    digest
}

fn digest(server: &Server, name: &str) -> BTreeMap<String, String> {
    let mut digest = rows(server, name);
    let schema = said(server.program("pg_dump").args(["--schema-only", "-d", name]));
    // A newer server writes its version and a random word.
    let kept = |line: &&str| !line.starts_with("--") && !line.starts_with('\\') && !line.trim().is_empty();
    digest.insert("schema".to_owned(), schema.lines().filter(kept).collect::<Vec<_>>().join("\n"));
    let sequences = server.sql(
        name,
        "select string_agg(format('%s.%s %s', schemaname, sequencename, coalesce(last_value::text, 'unused')), ', '
                order by schemaname, sequencename) from pg_sequences",
    );
    digest.insert("sequences".to_owned(), sequences);
    let objects = "select coalesce(string_agg(oid || ' ' || md5(lo_get(oid)), ', ' order by oid), '')
                     from pg_largeobject_metadata";
    digest.insert("large objects".to_owned(), server.sql(name, objects));
    let of_database = format!(
        "select pg_encoding_to_char(encoding), datcollate, datctype, pg_get_userbyid(datdba), datconnlimit,
                (select string_agg(item::text, ', ' order by item::text) from unnest(datacl) acl(item)),
                shobj_description(d.oid, 'pg_database'),
                (select string_agg(pg_get_userbyid(setrole) || setconfig::text, ', ' order by setrole)
                   from pg_db_role_setting where setdatabase = d.oid)
           from pg_database d where datname = '{name}'"
    );
    digest.insert("database".to_owned(), server.sql("postgres", &of_database));
    digest
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        // A test that fails has enough to say; the server goes with the run.
        let _ = self
            .server
            .psql("postgres")
            .args(["-c", &format!("drop database if exists {} with (force)", self.name)])
            .output();
    }
}
