//! Where a PostgreSQL database is and how it is reached: a URL as Django and libpq write it, filled from libpq's variables.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str};

use crate::database::readable;
use crate::error::{Error, Result};

/// What the parts of a URL cannot carry as they are.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b':')
    .add(b'?')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'&')
    .add(b'=')
    .add(b'+')
    .add(b'\'');
/// Where servers put their socket: as Debian builds them, and as PostgreSQL itself does.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// The port of a server that names no other.
const PORT: u16 = 5432;
/// How long a connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// How such a database is written.
const HOW: &str = "write postgres://user@host:5432/database; the password may come from PGPASSWORD or ~/.pgpass";

/// A password, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The text itself.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a connection is protected, as libpq's `sslmode`
/// (<https://www.postgresql.org/docs/current/libpq-ssl.html>, "Protection Provided in Different Modes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted when the server insists on it.
    Allow,
    /// Encrypted when the server can.
    Prefer,
    /// Encrypted, by whomever; with a root certificate file at hand, like [`SslMode::VerifyCa`].
    Require,
    /// Encrypted, by a server whose certificate a known authority signed.
    VerifyCa,
    /// The same, and the certificate is for that host.
    VerifyFull,
}

impl SslMode {
    fn parse(text: &str) -> Result<Self> {
        let known = [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];
        known.into_iter().find(|mode| mode.word() == text).ok_or_else(|| {
            Error::usage_hint(
                format!("{text:?} is not an sslmode"),
                "it is one of disable, allow, prefer, require, verify-ca, verify-full",
            )
        })
    }

    /// libpq's word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// A PostgreSQL database and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresDatabase {
    /// A host name or address, or the folder of a socket.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// The role.
    pub(crate) user: String,
    /// Its password.
    pub(crate) password: Option<Password>,
    /// The database's name.
    pub(crate) name: String,
    /// How the connection is protected.
    pub(crate) ssl: SslMode,
    /// The authorities whose signature counts; `system`: those that this machine trusts.
    pub(crate) root_certificate: Option<PathBuf>,
    /// The client's own certificate and key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// Settings of every session, as libpq's `options`.
    pub(crate) options: Option<String>,
    /// How long a connection may take to come about.
    pub(crate) connect_within: Duration,
    /// Folders in which `pg_dump` and its kin are looked for, in this order.
    pub(crate) programs: Vec<PathBuf>,
}

/// What libpq would hold a server to and this does not: the keyword, its variable, and the values that ask for nothing.
const CLAIMS: [(&str, &str, &[&str]); 8] = [
    ("channel_binding", "PGCHANNELBINDING", &["disable", "prefer"]),
    ("require_auth", "PGREQUIREAUTH", &[]),
    ("requirepeer", "PGREQUIREPEER", &[]),
    ("sslcrl", "PGSSLCRL", &[]),
    ("sslcrldir", "PGSSLCRLDIR", &[]),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ("gssencmode", "PGGSSENCMODE", &["disable", "prefer"]),
    ("hostaddr", "PGHOSTADDR", &[]),
];

/// What surrounds the place a database is read from: the folder that relative paths start at, libpq's variables.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// Relative paths start here; absolute.
    pub base: PathBuf,
    /// The environment's variables, of which libpq's, `HOME`, `USER` and `PATH` matter.
    pub variables: BTreeMap<String, String>,
    /// A folder in which `pg_dump` and its kin are looked for before all others.
    pub programs: Option<PathBuf>,
}

/// The values stay unsaid: passwords and keys are among them.
impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.variables.keys().collect();
        f.debug_struct("Surroundings")
            .field("base", &self.base)
            .field("variables", &names)
            .field("programs", &self.programs)
            .finish()
    }
}

impl Surroundings {
    /// Nothing but a folder.
    pub fn folder(base: &Path) -> Self {
        Self { base: base.to_owned(), ..Self::default() }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// What a URL itself says.
#[derive(Default)]
struct Written {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<String>,
    name: Option<String>,
    options: BTreeMap<String, String>,
}

impl PostgresDatabase {
    /// Reads what follows the scheme: `//user:password@host:port/name?sslmode=require`.
    ///
    /// What the URL leaves open comes from libpq's variables (`PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`,
    /// `PGSSLMODE`, …) and its password file, then from libpq's defaults
    /// (<https://www.postgresql.org/docs/current/libpq-connect.html>). Options of the app's driver are ignored, but what
    /// libpq would hold a server to and this does not is refused.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for what is no such URL and for several hosts, without showing what may be a password.
    pub(crate) fn from_url(rest: &str, around: &Surroundings) -> Result<Self> {
        let written = Written::read(rest)?;
        let taken = |written: Option<&String>, variable: &str| {
            written.cloned().or_else(|| around.variable(variable).map(str::to_owned))
        };
        let option = |name: &str, variable: &str| taken(written.options.get(name), variable);
        for (keyword, variable, harmless) in CLAIMS {
            if let Some(value) = option(keyword, variable).filter(|value| !value.is_empty())
                && !harmless.contains(&value.as_str())
            {
                return Err(Error::usage_hint(
                    format!("{keyword}={value} is not obeyed here, and must not be passed over"),
                    format!("leave {keyword} out of the URL and {variable} out of the environment"),
                ));
            }
        }
        let host = taken(written.host.as_ref(), "PGHOST").unwrap_or_else(socket_folder);
        if host.contains(',') {
            return Err(Error::usage_hint(
                "the database's URL names several hosts",
                "name one: a point is taken from one server",
            ));
        }
        let port = match taken(written.port.as_ref(), "PGPORT") {
            None => PORT,
            // A password with a `/` that is not written as %2F ends up here.
            Some(text) => text.parse().map_err(|_| Error::usage_hint("the database's port is not a number", HOW))?,
        };
        let user = taken(written.user.as_ref(), "PGUSER")
            .or_else(|| around.variable("USER").or_else(|| around.variable("LOGNAME")).map(str::to_owned))
            .ok_or_else(|| Error::usage_hint("no role is named for the database", HOW))?;
        let name = taken(written.name.as_ref(), "PGDATABASE").unwrap_or_else(|| user.clone());
        let path = |text: String| around.base.join(text);
        let certificate = option("sslcert", "PGSSLCERT")
            .map(path)
            .zip(option("sslkey", "PGSSLKEY").map(|text| around.base.join(text)));
        let root_certificate =
            option("sslrootcert", "PGSSLROOTCERT").map(|text| if text == "system" { text.into() } else { path(text) });
        let home_root = around.variable("HOME").map(|home| Path::new(home).join(".postgresql/root.crt"));
        let password = taken(written.password.as_ref(), "PGPASSWORD").map(Password).or_else(|| {
            let file = option("passfile", "PGPASSFILE").map(path);
            let file = file.or_else(|| Some(Path::new(around.variable("HOME")?).join(".pgpass")))?;
            password_of_file(&file, &[&host, &port.to_string(), &name, &user])
        });
        let ssl = match option("sslmode", "PGSSLMODE") {
            Some(text) => SslMode::parse(&text)?,
            // A root certificate named outright is meant to be used.
            None if root_certificate.as_deref() == Some(Path::new("system")) => SslMode::VerifyFull,
            None => SslMode::Prefer,
        };
        let seconds = option("connect_timeout", "PGCONNECT_TIMEOUT").and_then(|text| text.parse().ok());
        Ok(Self {
            host,
            port,
            user,
            password,
            name,
            ssl,
            root_certificate: root_certificate.or_else(|| home_root.filter(|path| path.exists())),
            certificate,
            options: option("options", "PGOPTIONS"),
            connect_within: seconds.filter(|seconds| *seconds > 0).map_or(CONNECT_WITHIN, Duration::from_secs),
            programs: super::tools::folders(around.programs.as_deref(), around.variable("PATH")),
        })
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where it is, without role and secrets: two roles reach the same database.
    pub(crate) fn location(&self) -> String {
        let name = readable(&self.name, ESCAPED);
        if self.is_local() {
            let folder = readable(&self.host, ESCAPED);
            return format!("postgres:///{name}?host={folder}&port={}", self.port);
        }
        // An address with colons stands in brackets.
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { readable(&self.host, ESCAPED) };
        format!("postgres://{host}:{}/{name}", self.port)
    }

    /// The whole of how it is reached, with the password: for the environment of a process that is to work in it, and for
    /// nothing that is shown or stored.
    pub fn url_with_password(&self) -> String {
        let text = |text: &str| readable(text, ESCAPED);
        let password = self.password.as_ref().map(|password| format!(":{}", text(password.text())));
        let login = format!("{}{}@", text(&self.user), password.unwrap_or_default());
        let location = self.location();
        let place = location.trim_start_matches("postgres://");
        let mut url = format!("postgres://{login}{place}");
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let options = [
            ("sslmode", (self.ssl != SslMode::Prefer).then(|| self.ssl.word().to_owned())),
            ("sslrootcert", self.root_certificate.as_ref().map(path)),
            ("sslcert", self.certificate.as_ref().map(|(certificate, _)| path(certificate))),
            ("sslkey", self.certificate.as_ref().map(|(_, key)| path(key))),
            ("options", self.options.clone()),
        ];
        for (name, value) in options.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            let before = if url.contains('?') { '&' } else { '?' };
            // Writing to a string cannot fail.
            let _ = write!(url, "{before}{name}={}", text(&value));
        }
        url
    }

    /// True when it is reached over a socket of this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.host.starts_with('/')
    }

    /// Another database of the same server, reached the same way.
    pub(crate) fn with_name(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }
}

impl Written {
    fn read(rest: &str) -> Result<Self> {
        let refuse = || Error::usage_hint("the database's URL cannot be understood", HOW);
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| refuse());
        let some = |text: &str| if text.is_empty() { Ok(None) } else { decoded(text).map(Some) };
        let rest = rest.strip_prefix("//").ok_or_else(refuse)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
            Some((address, port)) => (address, port.strip_prefix(':').unwrap_or("")),
            None => place.rsplit_once(':').unwrap_or((place, "")),
        };
        let mut written = Self {
            host: some(host)?,
            port: some(port)?,
            user: some(user)?,
            password: password.map(decoded).transpose()?,
            name: some(name)?,
            options: BTreeMap::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)?;
            match name {
                "host" => written.host = Some(value),
                "port" => written.port = Some(value),
                "user" => written.user = Some(value),
                "password" => written.password = Some(value),
                "dbname" => written.name = Some(value),
                _ => drop(written.options.insert(name.to_owned(), value)),
            }
        }
        Ok(written)
    }
}

fn socket_folder() -> String {
    let there = SOCKET_FOLDERS.into_iter().find(|folder| Path::new(folder).is_dir());
    there.unwrap_or(SOCKET_FOLDERS[0]).to_owned()
}

/// The password that libpq's file has for host, port, database and role
/// (<https://www.postgresql.org/docs/current/libpq-pgpass.html>); a file that others may read is ignored, as libpq does.
fn password_of_file(path: &Path, wanted: &[&str; 4]) -> Option<Password> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields_of(line);
        let (password, place) = fields.split_last().filter(|(_, place)| place.len() == wanted.len())?;
        // libpq knows a socket in its default folder as `localhost`.
        let matches = |(field, wanted): (&String, &&str)| {
            field == "*" || field == wanted || (field == "localhost" && SOCKET_FOLDERS.contains(wanted))
        };
        place.iter().zip(wanted).all(matches).then(|| Password(password.clone()))
    })
}

/// The five fields of a line, separated by `:`, with `\:` and `\\` for the characters themselves.
fn fields_of(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let last = fields.len() - 1;
        match letter {
            '\\' => fields[last].extend(letters.next()),
            ':' if fields.len() < 5 => fields.push(String::new()),
            other => fields[last].push(other),
        }
    }
    fields
}

/// A line of libpq's password file for any database that these credentials reach.
pub(crate) fn password_line(password: &Password) -> String {
    let escaped = password.text().replace('\\', "\\\\").replace(':', "\\:");
    format!("*:*:*:*:{escaped}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(variables: &[(&str, &str)]) -> Surroundings {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Surroundings { base: "/srv".into(), variables, programs: None }
    }

    fn read(rest: &str, variables: &[(&str, &str)]) -> PostgresDatabase {
        PostgresDatabase::from_url(rest, &around(variables)).expect(rest)
    }

    #[test]
    fn a_url_is_read_as_libpq_reads_it() {
        let database = read("//jo%40e:a%3Ab%2F@db.example:6543/cl%C3%ADnica?sslmode=require&conn_max_age=5", &[]);
        assert_eq!((database.user.as_str(), database.host.as_str(), database.port), ("jo@e", "db.example", 6543));
        assert_eq!(database.name, "clínica");
        assert_eq!(database.password.as_ref().map(Password::text), Some("a:b/"));
        assert_eq!(database.ssl, SslMode::Require);
        assert_eq!(database.location(), "postgres://db.example:6543/clínica");
        assert!(!format!("{database:?}").contains("a:b/"));
    }

    #[test]
    fn what_the_url_leaves_open_comes_from_libpq_s_variables() {
        let variables =
            [("PGHOST", "h"), ("PGPORT", "1"), ("PGUSER", "u"), ("PGPASSWORD", "p"), ("PGSSLMODE", "disable")];
        let database = read("///shop", &variables);
        assert_eq!(database.location(), "postgres://h:1/shop");
        assert_eq!((database.user.as_str(), database.ssl), ("u", SslMode::Disable));
        assert_eq!(read("//other@x/shop", &variables).user, "other");
        assert_eq!(read("//other@x", &variables).name, "other");
    }

    #[test]
    fn the_url_for_a_child_leads_where_this_one_did() {
        for rest in [
            "//jo%40e:a%3Ab%2F%2B%26@db.example:6543/cl%C3%ADnica?sslmode=require&options=-c%20work_mem%3D5MB",
            "//u@[::1]:1/a%20b?sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem",
            "//u:p@/shop?host=/var/run/postgresql&port=7",
        ] {
            let database = read(rest, &[]);
            let url = database.url_with_password();
            assert_eq!(read(url.strip_prefix("postgres:").expect("its scheme"), &[]), database, "{url}");
        }
    }

    #[test]
    fn surroundings_are_shown_without_what_the_variables_hold() {
        let shown = format!("{:?}", around(&[("PGPASSWORD", "hunter2"), ("HOME", "/srv")]));
        assert!(shown.contains("PGPASSWORD") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_location_is_read_back_as_the_same_place() {
        for rest in [
            "//u@/a%20b%3F?host=/run/pg%20x&port=7",
            "//u@[::1]:5433/x",
            "//u@example/we%2Fird%25",
            "//u@/x?host=%2Ftmp",
        ] {
            let database = read(rest, &[]);
            let location = database.location();
            let again = read(location.strip_prefix("postgres:").expect("its scheme"), &[("USER", "u")]);
            assert_eq!(database, again, "{location}");
        }
    }

    #[test]
    fn the_password_file_is_read_as_libpq_does_and_only_when_it_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pass");
        std::fs::write(&file, "# no\nother:*:*:*:wrong\nhost:5432:d\\:b:*:se\\\\cret\\:x\n").expect("a file");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("a mode");
        let variables = [("PGPASSFILE", file.to_str().expect("text")), ("USER", "u")];
        let password = read("//host/d%3Ab", &variables).password;
        assert_eq!(password.as_ref().map(Password::text), Some("se\\cret:x"));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("a mode");
        assert_eq!(read("//host/d%3Ab", &variables).password, None);
    }

    #[test]
    fn what_is_asked_of_a_server_and_not_obeyed_is_refused() {
        for claim in ["channel_binding=require", "require_auth=scram-sha-256", "sslcrl=/x", "gssencmode=require"] {
            let error = PostgresDatabase::from_url(&format!("//u@h/db?{claim}"), &around(&[])).expect_err(claim);
            assert!(error.to_string().contains("must not be passed over"), "{error:?}");
        }
        let variables = [("PGREQUIREAUTH", "scram-sha-256")];
        PostgresDatabase::from_url("//u@h/db", &around(&variables)).expect_err("a claim");
        read("//u@h/db?channel_binding=prefer&require_auth=&ssl_min_protocol_version=TLSv1.2", &[]);
    }

    #[test]
    fn what_is_no_such_url_is_refused_without_showing_a_password() {
        for rest in [
            "u:secret@host/db",
            "//u:secret@host:port/db",
            "//u:secret@a,b/db",
            "//u:secret@h/db?sslmode=x",
            "//u:secret/x@h/db",
        ] {
            let error = PostgresDatabase::from_url(rest, &around(&[])).expect_err(rest);
            assert!(matches!(error, Error::Usage { .. }), "{error:?}");
            assert!(!format!("{error:?}").contains("secret"));
        }
    }
}
