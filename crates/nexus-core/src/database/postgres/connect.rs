//! A session with a server: TCP or a socket, TLS as libpq's `sslmode` says, and no pooler in between.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_rustls::TlsConnector;

use super::place::{PostgresDatabase, SslMode};
use super::tls::{encryption, require_authority};
use super::words::without_rows;
use crate::error::{DatabaseWords, Error, Result};

/// Under which name the server lists our sessions.
pub(crate) const APPLICATION: &str = "nexus";
/// After how long a quiet connection is asked whether it lives: networks forget quiet connections.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long a session that is over may take to say so to the server.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often a server looks whether its client is still there: who was ended must not stand in a queue for locks.
const WATCH: &str = "client_connection_check_interval=1000";
/// The oldest major version that is served.
pub(crate) const OLDEST: u32 = 13;
/// Asks the server to go on encrypted
/// (<https://www.postgresql.org/docs/current/protocol-message-formats.html>, `SSLRequest`).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// The tag of the message that names the server's process.
const BACKEND_KEY: u8 = b'K';
/// The tag of the message after which a session may be used.
const READY: u8 = b'Z';

/// One session.
pub(crate) struct Session {
    client: Client,
    pid: i32,
    place: String,
    /// True when the server looks now and then whether we are still there, even while it waits for a lock.
    watched: bool,
    /// Its end cuts the connection, a moment later.
    _alive: oneshot::Sender<()>,
    /// The server's version, as `server_version_num` has it: 150018 for 15.18.
    pub(crate) version: u32,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a session with {}", self.place)
    }
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Session {
    /// Opens a session that waits for nothing but what it is told to, and sees every row or fails.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] when the server does not answer; [`Error::Denied`] for a wrong password; [`Error::Missing`]
    /// for an unknown database; [`Error::Unsupported`] for a pooler and for a version that is too old.
    pub(crate) async fn open(database: &PostgresDatabase) -> Result<Self> {
        let opening = tokio::time::timeout(database.connect_within, connect(database));
        let opened = opening.await.unwrap_or_else(|_| {
            let cause = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
            Err(unreachable(database, &cause))
        });
        let Talk { client, pid, alive } = opened?;
        let mut session = Self { client, pid, place: database.location(), watched: false, _alive: alive, version: 0 };
        session.settle().await?;
        Ok(session)
    }

    async fn settle(&mut self) -> Result<()> {
        let row = self
            .rows("select pg_backend_pid(), current_setting('server_version_num')", "ask for its version")
            .await?
            .swap_remove(0);
        self.version = row.text(1).parse().unwrap_or(0);
        if row.text(0) != self.pid.to_string() {
            return Err(Error::Unsupported {
                what: format!(
                    "{} answers through a connection pooler, through which a snapshot cannot be shared between \
                     sessions: name the server's own host and port",
                    self.place
                ),
            });
        }
        if self.version / 10_000 < OLDEST {
            let version = self.version / 10_000;
            return Err(Error::Unsupported {
                what: format!("{} is PostgreSQL {version}; {OLDEST} is the oldest that is served", self.place),
            });
        }
        // What an administrator set for everyday sessions must not end a dump half-way, and what the role or the
        // database set must not change how values read.
        let mut settings = vec![
            "statement_timeout=0",
            "lock_timeout=0",
            "idle_in_transaction_session_timeout=0",
            "row_security=off",
            "search_path=pg_catalog",
            "DateStyle='ISO, YMD'",
            "IntervalStyle=postgres",
            "TimeZone='UTC'",
            "bytea_output=hex",
            "extra_float_digits=1",
            "xmloption=content",
            "lc_monetary='C'",
            "array_nulls=on",
            "standard_conforming_strings=on",
            "quote_all_identifiers=off",
            "client_min_messages=warning",
            "synchronize_seqscans=off",
            // Rows of a table without a key come in the same order every time.
            "max_parallel_workers_per_gather=0",
            "synchronous_commit=on",
        ];
        if self.version >= 140_000 {
            settings.push("idle_session_timeout=0");
        }
        if self.version >= 170_000 {
            settings.push("transaction_timeout=0");
        }
        let sets: Vec<String> = settings.iter().map(|setting| format!("set {setting}")).collect();
        self.run(&sets.join("; "), "set up a session").await?;
        // Not every system that a server runs on can look; there a session that waits is left to its lock timeout.
        self.watched = self.version >= 140_000 && self.client.batch_execute(&format!("set {WATCH}")).await.is_ok();
        Ok(())
    }

    /// What makes the server look now and then whether its client is still there, where it can: libpq's `options`.
    pub(crate) fn watching(&self) -> String {
        if self.watched { format!("-c {WATCH}") } else { String::new() }
    }

    /// Lets names in a table's own expressions find what they find for the app: to read a table, or to write to it, the
    /// server may expand the functions of its indexes and checks, which need not name schemas.
    ///
    /// `path` is the app's; without it the one that sessions here begin with. Questions to the catalogue are asked without it,
    /// so that nobody's function answers for the server's own.
    pub(crate) async fn follow_path(&self, path: Option<&str>) -> Result<()> {
        let path = match path {
            Some(path) => super::catalogue::literal(path),
            None => "(select reset_val from pg_settings where name = 'search_path')".to_owned(),
        };
        let sql = format!(
            "select set_config('search_path', case when p in ('', '\"\"') then 'pg_catalog' else 'pg_catalog, ' || p end,
                               false)
               from (select {path}) as paths(p)"
        );
        self.run(&sql, "set up a session").await
    }

    /// Names are the server's own again.
    pub(crate) async fn follow_no_path(&self) -> Result<()> {
        self.run("set search_path=pg_catalog", "set up a session").await
    }

    /// The server's major version.
    pub(crate) fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// The server's process that serves this session.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Where it leads to, without secrets.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The client itself, for what streams.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Runs statements that answer nothing; `what` completes "cannot … in".
    pub(crate) async fn run(&self, sql: &str, what: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|cause| self.failed(what, &cause))
    }

    /// Runs statements and answers the rows of all of them, as text.
    pub(crate) async fn rows(&self, sql: &str, what: &str) -> Result<Vec<TextRow>> {
        self.rows_of(sql).await.map_err(|cause| self.failed(what, &cause))
    }

    /// The same with the client's own error.
    pub(crate) async fn rows_of(&self, sql: &str) -> std::result::Result<Vec<TextRow>, tokio_postgres::Error> {
        use tokio_postgres::SimpleQueryMessage;
        let messages = self.client.simple_query(sql).await?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some(TextRow((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()))
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The only value of the only row, as text; empty when there is none.
    pub(crate) async fn value(&self, sql: &str, what: &str) -> Result<String> {
        Ok(self.rows(sql, what).await?.first().map(|row| row.text(0).to_owned()).unwrap_or_default())
    }

    /// Sorts a failure by what can be done about it.
    pub(crate) fn failed(&self, what: &str, cause: &tokio_postgres::Error) -> Error {
        failed(format!("cannot {what} in {}", self.place), cause)
    }
}

/// A row whose values are text, as the simple protocol gives them.
#[derive(Debug, Clone)]
pub(crate) struct TextRow(Vec<Option<String>>);

impl TextRow {
    /// A value; NULL is empty.
    pub(crate) fn text(&self, column: usize) -> &str {
        self.0.get(column).and_then(Option::as_deref).unwrap_or_default()
    }

    /// A value, unless it is NULL.
    pub(crate) fn maybe(&self, column: usize) -> Option<&str> {
        self.0.get(column).and_then(Option::as_deref)
    }

    /// True for `t`.
    pub(crate) fn is_true(&self, column: usize) -> bool {
        self.text(column) == "t"
    }

    /// A number; what is none is 0.
    pub(crate) fn number<T: std::str::FromStr + Default>(&self, column: usize) -> T {
        self.text(column).parse().unwrap_or_default()
    }
}

/// Sorts a failure by what can be done about it
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(crate) fn failed(what: String, cause: &tokio_postgres::Error) -> Error {
    let Some(code) = cause.code().cloned() else {
        return Error::Unreachable { what, cause: Some(DatabaseWords(with_causes(cause)).into()) };
    };
    let mut words = cause.as_db_error().map(words).unwrap_or_default();
    if code == SqlState::T_R_SERIALIZATION_FAILURE && words.contains("recovery") {
        words.push_str("; a standby ends what reads for longer than its max_standby_streaming_delay: raise it there");
    }
    let cause = Some(DatabaseWords(words).into());
    match code {
        SqlState::INVALID_PASSWORD
        | SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        | SqlState::INSUFFICIENT_PRIVILEGE => Error::Denied { what, cause },
        SqlState::INVALID_CATALOG_NAME => Error::Missing { what, cause },
        SqlState::DISK_FULL => Error::Full { what, cause },
        SqlState::LOCK_NOT_AVAILABLE | SqlState::OBJECT_IN_USE => {
            Error::Busy { what: format!("{what}: {}", cause.map(|cause| cause.to_string()).unwrap_or_default()) }
        }
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
            Error::Unreachable { what, cause }
        }
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => Error::Damaged { what, cause },
        _ => Error::Service { what, cause },
    }
}

/// What the server says, with its detail and hint.
fn words(error: &tokio_postgres::error::DbError) -> String {
    let detail = error.detail().map(without_rows);
    let more = [detail.as_deref(), error.hint()].into_iter().flatten().map(|text| format!("; {text}"));
    format!("{}{}", error.message(), more.collect::<String>())
}

/// An error of the client or the system with what is behind it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

fn unreachable(database: &PostgresDatabase, cause: &dyn std::error::Error) -> Error {
    Error::Unreachable {
        what: format!("cannot reach the database at {}", database.location()),
        cause: Some(DatabaseWords(with_causes(cause)).into()),
    }
}

/// A session that has begun.
struct Talk {
    client: Client,
    pid: i32,
    alive: oneshot::Sender<()>,
}

async fn connect(database: &PostgresDatabase) -> Result<Talk> {
    // libpq's `allow` tries without encryption first, which is what `prefer` falls back to.
    let (wire, encrypted) = open_wire(database).await?;
    match talk(database, wire).await {
        // A server may take only unencrypted connections from here: `prefer` tries once more without.
        Err(error @ Error::Denied { .. }) if encrypted && database.ssl == SslMode::Prefer => {
            let plain = PostgresDatabase { ssl: SslMode::Disable, ..database.clone() };
            let (wire, _) = open_wire(&plain).await?;
            talk(&plain, wire).await.map_err(|_| error)
        }
        Err(error @ Error::Denied { .. }) if !encrypted && database.ssl == SslMode::Allow => {
            let encrypting = PostgresDatabase { ssl: SslMode::Require, ..database.clone() };
            let Ok((wire, _)) = open_wire(&encrypting).await else { return Err(error) };
            talk(&encrypting, wire).await.map_err(|_| error)
        }
        other => other,
    }
}

/// Logs in and sees to it that the connection is driven for as long as its client lives.
async fn talk(database: &PostgresDatabase, wire: Box<dyn Wire>) -> Result<Talk> {
    let pid = Arc::new(AtomicI32::new(0));
    let watched = Watched { wire, pid: Some(pid.clone()), header: Vec::with_capacity(9), skip: 0 };
    let mut config = Config::new();
    config.user(&database.user).dbname(&database.name).application_name(APPLICATION);
    if let Some(password) = &database.password {
        config.password(password.text());
    }
    if let Some(options) = &database.options {
        config.options(options);
    }
    let what = || format!("cannot log in to the database at {} as {:?}", database.location(), database.user);
    let (client, connection) = config.connect_raw(watched, NoTls).await.map_err(|cause| {
        if cause.code().is_none() && cause.to_string().contains("password missing") {
            return Error::Denied {
                what: what(),
                cause: Some(
                    DatabaseWords(
                        "the server asks for a password, and none is in the URL, PGPASSWORD or ~/.pgpass".into(),
                    )
                    .into(),
                ),
            };
        }
        failed(what(), &cause)
    })?;
    // It ends when the client is dropped; what goes wrong in it, the client's next request says. But a server that is
    // still busy with a request would be waited for, and go on waiting itself.
    let (alive, over) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let late = async {
            let _ = over.await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! { _ = connection => {} () = late => {} }
    });
    Ok(Talk { client, pid: pid.load(Ordering::Relaxed), alive })
}

async fn open_wire(database: &PostgresDatabase) -> Result<(Box<dyn Wire>, bool)> {
    let failed = |cause: io::Error| unreachable(database, &cause);
    if database.is_local() {
        let socket = Path::new(&database.host).join(format!(".s.PGSQL.{}", database.port));
        let stream = UnixStream::connect(&socket).await.map_err(failed)?;
        return Ok((Box::new(stream), false));
    }
    require_authority(database)?;
    let mut stream = TcpStream::connect((database.host.as_str(), database.port)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(failed)?;
    if matches!(database.ssl, SslMode::Disable | SslMode::Allow) {
        return Ok((Box::new(stream), false));
    }
    stream.write_all(&SSL_REQUEST).await.map_err(failed)?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await.map_err(failed)?;
    if answer != *b"S" {
        if database.ssl == SslMode::Prefer {
            return Ok((Box::new(stream), false));
        }
        let what = format!("the server at {} does not encrypt, and the sslmode asks for it", database.location());
        return Err(Error::Unsupported { what });
    }
    let connector = TlsConnector::from(Arc::new(encryption(database)?));
    let name = ServerName::try_from(database.host.clone()).map_err(|cause| unreachable(database, &cause))?;
    let stream = connector.connect(name, stream).await.map_err(failed)?;
    Ok((Box::new(stream), true))
}

/// A connection that notes which process the server says it is: a pooler says another than the one that answers.
struct Watched {
    wire: Box<dyn Wire>,
    /// Where to note it, until the session is ready.
    pid: Option<Arc<AtomicI32>>,
    /// The first nine bytes of the message that is being read: tag, length, and the process where that is what it says.
    header: Vec<u8>,
    /// Bytes of it that are still to come.
    skip: usize,
}

impl Watched {
    fn watch(&mut self, mut bytes: &[u8]) {
        while let (Some(pid), false) = (&self.pid, bytes.is_empty()) {
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let wanted = if self.header.first() == Some(&BACKEND_KEY) { 9 } else { 5 };
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            if self.header.len() < wanted {
                continue;
            }
            let number =
                |at: usize| self.header[at..at + 4].iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
            // The length counts itself, not the tag.
            self.skip = (number(1) as usize + 1).saturating_sub(wanted);
            match self.header[0] {
                BACKEND_KEY => pid.store(number(5).cast_signed(), Ordering::Relaxed),
                READY => self.pid = None,
                _ => {}
            }
            self.header.clear();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.wire).poll_read(cx, buf);
        if self.pid.is_some() {
            let read = buf.filled()[before..].to_vec();
            self.watch(&read);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
