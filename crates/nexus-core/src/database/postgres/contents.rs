//! What a dump holds that somebody else has made, with nobody left to ask: its facts from its table of contents, its rows counted
//! from its own data, which stock `pg_restore` unpacks to the last byte.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::BufReader;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncReadExt;

use super::catalogue::shown;
use super::place::PostgresDatabase;
use super::restore::leading_number;
use super::statements;
use super::toc::{self, Entry, Toc, Unread};
use super::tools;
use super::words::without_rows;
use crate::error::{Error, Result};
use crate::local::blocking;
use crate::point::{PostgresExtension, PostgresFacts};

/// What is read from `pg_restore` at once, bytes.
const CHUNK: usize = 256 << 10;
/// What stands before each large object in a script.
const LARGE_OBJECT: &[u8] = b"SELECT pg_catalog.lo_open('";
/// What ends the rows of a table.
const END: &[u8] = b"\\.";

/// What it holds.
#[derive(Debug)]
pub(crate) struct Contents {
    /// What it says of its database.
    pub(crate) facts: PostgresFacts,
    /// Rows by table.
    pub(crate) tables: BTreeMap<String, u64>,
}

impl PostgresDatabase {
    /// Reads a dump to its end; of no database here but for the folders of its programs and its user. Inside: why it is none.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] when no `pg_restore` is here that reads it.
    pub(crate) async fn contents(&self, dump: &Path) -> Result<std::result::Result<Contents, String>> {
        let what = format!("cannot read `{}`", dump.display());
        let path = dump.to_owned();
        let opened =
            blocking(move || Ok(std::fs::File::open(path).map(|file| toc::read(BufReader::new(file))))).await?;
        let toc = match opened.map_err(|cause| Error::local(what.clone(), cause))? {
            Ok(toc) => toc,
            Err(Unread::No(why)) => return Ok(Err(why)),
            Err(Unread::Cut) => return Ok(Err("unfinished: it is cut".to_owned())),
            Err(Unread::Failed(cause)) => return Err(Error::local(what, cause)),
        };
        if let Err(why) = require_whole(&toc) {
            return Ok(Err(why));
        }
        let coming = match Counter::new(&toc) {
            Ok(coming) => coming,
            Err(why) => return Ok(Err(why)),
        };
        let counted = match self.counted(dump, leading_number(&toc.client), coming).await? {
            Ok(counted) => counted,
            Err(why) => return Ok(Err(why)),
        };
        let Some(facts) = facts(&toc, &counted, &self.user) else {
            return Ok(Err("it does not say what database it is of".to_owned()));
        };
        Ok(Ok(Contents { facts, tables: with_partitions(&toc, counted.rows) }))
    }

    /// Has the data of a dump unpacked, and counts it.
    async fn counted(
        &self,
        dump: &Path,
        made_by: u32,
        mut counter: Counter,
    ) -> Result<std::result::Result<Counted, String>> {
        let program = tools::program(self, "pg_restore", made_by).await?;
        let failed = |cause| Error::local(format!("cannot run `{}`", program.path.display()), cause);
        let mut child = tools::offline(&program)
            .args(["--data-only", "--file=-"])
            .arg(dump)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(mut out), errors) = (child.stdout.take(), child.stderr.take()) else {
            return Ok(Err("pg_restore says nothing".to_owned()));
        };
        let reading = async {
            let mut chunk = vec![0; CHUNK];
            loop {
                match out.read(&mut chunk).await? {
                    0 => return Ok::<_, std::io::Error>(()),
                    read => counter.push(&chunk[..read]),
                }
            }
        };
        let (read, words, status) = futures::join!(reading, tools::last_words(errors), child.wait());
        let status = status.map_err(failed)?;
        read.map_err(failed)?;
        match status.code() {
            Some(0) => Ok(counter.finish()),
            Some(_) if words.contains("does not support compression") => Err(Error::Unsupported {
                what: format!(
                    "`{}` cannot read an old dump: {}; name the folder of one that can as `programs` under [database]",
                    program.path.display(),
                    without_rows(&words)
                ),
            }),
            Some(_) => Ok(Err(format!("unfinished: pg_restore cannot read it to its end: {}", without_rows(&words)))),
            None => Err(Error::Service {
                what: format!("`{}` was ended ({status}) while it read an old dump", program.path.display()),
                cause: None,
            }),
        }
    }
}

/// Refuses a dump that was told to leave out rows or the tables that they belong in: restored, it would not be the database.
///
/// Which tables it was told to leave out altogether, it does not say.
fn require_whole(toc: &Toc) -> std::result::Result<(), String> {
    let of = |kind: &'static str| toc.entries.iter().filter(move |entry| entry.kind == kind);
    let rows: BTreeSet<(&str, &str)> = of("TABLE DATA")
        .filter(|entry| entry.has_data)
        .map(|entry| (entry.schema.as_str(), entry.tag.as_str()))
        .collect();
    if of("TABLE").next().is_none() {
        return Err("it holds no table".to_owned());
    }
    let without = of("TABLE").find(|entry| {
        !rows.contains(&(entry.schema.as_str(), entry.tag.as_str())) && !statements::is_partitioned(&entry.definition)
    });
    if let Some(table) = without {
        return Err(format!("it was made without the rows of {}", shown(&table.schema, &table.tag)));
    }
    Ok(())
}

/// Rows of a partition are those of the table that it is a part of, as in every other point.
fn with_partitions(toc: &Toc, rows: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let attaching = toc.entries.iter().filter(|entry| ["TABLE", "TABLE ATTACH"].contains(&entry.kind.as_str()));
    let named = |(schema, name): (String, String)| shown(&schema, &name);
    let parents: BTreeMap<String, String> = attaching
        .flat_map(|entry| statements::partitions(&entry.definition))
        .map(|(child, parent)| (named(child), named(parent)))
        .collect();
    // One may have no partition that has rows.
    let parted =
        toc.entries.iter().filter(|entry| entry.kind == "TABLE" && statements::is_partitioned(&entry.definition));
    let parted = parted.map(|entry| shown(&entry.schema, &entry.tag)).filter(|name| !parents.contains_key(name));
    let mut tables: BTreeMap<String, u64> = parted.map(|name| (name, 0)).collect();
    for (mut name, rows) in rows {
        // A partition may have partitions, and no more levels than there are.
        for _ in 0..parents.len() {
            let Some(parent) = parents.get(&name) else { break };
            name.clone_from(parent);
        }
        *tables.entry(name).or_default() += rows;
    }
    tables
}

/// What was counted.
#[derive(Debug, Default)]
struct Counted {
    rows: BTreeMap<String, u64>,
    large_objects: u64,
    bytes: u64,
}

/// Counts the rows in what `pg_restore` writes, line by line, keeping no more of a line than tells what it is.
#[derive(Debug)]
struct Counter {
    /// Tables whose data is still to come, each with the first line of the statement before it, and how many more lines that has;
    /// without a name when it is not counted.
    coming: VecDeque<(Vec<u8>, usize, Option<String>)>,
    /// How much of a line tells what it is.
    longest: usize,
    line: Vec<u8>,
    at: At,
    counted: Counted,
}

/// Where in a script it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Between,
    /// In a statement of so many more lines.
    Statement(usize),
    Rows(u64),
}

impl Counter {
    /// For the tables of a dump.
    fn new(toc: &Toc) -> std::result::Result<Self, String> {
        let named = |entry: &&Entry| entry.kind == "TABLE";
        let made: BTreeSet<(&str, &str)> =
            toc.entries.iter().filter(named).map(|entry| (entry.schema.as_str(), entry.tag.as_str())).collect();
        let mut coming = VecDeque::new();
        for entry in toc.entries.iter().filter(|entry| entry.has_data && entry.kind == "TABLE DATA") {
            let name = shown(&entry.schema, &entry.tag);
            if [&entry.schema, &entry.tag, &entry.copy].iter().any(|text| text.contains(char::REPLACEMENT_CHARACTER)) {
                return Err(format!("the name of its table {name} is not in UTF-8"));
            }
            let statement = entry.copy.trim_end_matches('\n');
            if !statement.starts_with("COPY ") {
                return Err(format!("the rows of its table {name} are statements, which are not counted"));
            }
            let mut lines = statement.split('\n');
            let first = lines.next().unwrap_or_default().as_bytes().to_vec();
            // The rows that an extension's script has made are there already when these come.
            let ours = made.contains(&(entry.schema.as_str(), entry.tag.as_str()));
            coming.push_back((first, lines.count(), ours.then_some(name)));
        }
        let lines = coming.iter().map(|(first, ..)| first.len());
        let longest = lines.chain([LARGE_OBJECT.len(), END.len()]).max().unwrap_or_default() + 1;
        Ok(Self { coming, longest, line: Vec::new(), at: At::Between, counted: Counted::default() })
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.keep(&bytes[..end]);
            self.line_ended();
            self.line.clear();
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.longest.saturating_sub(self.line.len()).min(bytes.len());
        self.line.extend_from_slice(&bytes[..room]);
        if let At::Rows(_) = self.at {
            self.counted.bytes += bytes.len() as u64;
        }
    }

    fn line_ended(&mut self) {
        self.at = match self.at {
            At::Between => match self.coming.front() {
                Some((first, 0, _)) if *first == self.line => At::Rows(0),
                Some((first, more, _)) if *first == self.line => At::Statement(*more),
                _ => {
                    self.counted.large_objects += u64::from(self.line.starts_with(LARGE_OBJECT));
                    At::Between
                }
            },
            At::Statement(1) => At::Rows(0),
            At::Statement(more) => At::Statement(more - 1),
            At::Rows(rows) if self.line == END => {
                if let Some((.., Some(name))) = self.coming.pop_front() {
                    *self.counted.rows.entry(name).or_default() += rows;
                }
                At::Between
            }
            At::Rows(rows) => At::Rows(rows + 1),
        };
    }

    fn finish(self) -> std::result::Result<Counted, String> {
        match (self.at, self.coming.front()) {
            (At::Between, None) => Ok(self.counted),
            (_, coming) => {
                let name =
                    coming.and_then(|(.., name)| name.clone()).unwrap_or_else(|| "an extension's table".to_owned());
                Err(format!("unfinished: the rows of {name} are not in it, or not to their end"))
            }
        }
    }
}

/// What it says of its database; nothing when it says nothing.
fn facts(toc: &Toc, counted: &Counted, role: &str) -> Option<PostgresFacts> {
    let of = |kind: &str| toc.entries.iter().filter(move |entry| entry.kind == kind).collect::<Vec<_>>();
    let (databases, about) = (of("DATABASE"), |entry: &&Entry| entry.tag.starts_with("DATABASE "));
    let database = *databases.first()?;
    let options = statements::options(&database.definition);
    let option = |name: &str| options.get(name).cloned();
    let properties =
        of("DATABASE PROPERTIES").first().map(|entry| statements::properties(&entry.definition)).unwrap_or_default();
    let granted = of("ACL").into_iter().find(about).map(|entry| statements::grants(&entry.definition, &database.owner));
    let acls = ["ACL", "DEFAULT ACL"].into_iter().flat_map(of);
    let roles: BTreeSet<String> = acls.flat_map(|entry| statements::grantees(&entry.definition)).collect();
    let tablespaces: BTreeSet<String> =
        toc.entries.iter().map(|entry| entry.tablespace.clone()).filter(|name| !name.is_empty()).collect();
    let owners: BTreeSet<String> =
        toc.entries.iter().map(|entry| entry.owner.clone()).filter(|owner| !owner.is_empty()).collect();
    let extension = |entry: &Entry| PostgresExtension {
        name: entry.tag.clone(),
        version: String::new(),
        schema: entry.definition.rsplit_once(" WITH SCHEMA ").map_or_else(String::new, |(_, schema)| {
            schema.trim_end().trim_end_matches(';').trim_matches('"').to_owned()
        }),
    };
    Some(PostgresFacts {
        server: toc.server.clone(),
        client: format!("pg_dump {}", toc.client),
        compression: toc.compression.to_owned(),
        encoding: option("ENCODING")?,
        collate: option("LC_COLLATE").or_else(|| option("LOCALE")).unwrap_or_else(|| "C".to_owned()),
        ctype: option("LC_CTYPE").or_else(|| option("LOCALE")).unwrap_or_else(|| "C".to_owned()),
        locale_provider: option("LOCALE_PROVIDER").unwrap_or_else(|| "libc".to_owned()),
        locale: option("BUILTIN_LOCALE").or_else(|| option("ICU_LOCALE")),
        icu_rules: option("ICU_RULES"),
        owner: database.owner.clone(),
        comment: of("COMMENT").into_iter().find(about).and_then(|entry| statements::comment(&entry.definition)),
        connection_limit: properties.connection_limit.unwrap_or(-1),
        is_template: properties.is_template,
        tablespace: option("TABLESPACE"),
        tablespaces: tablespaces.into_iter().collect(),
        role: role.to_owned(),
        size: counted.bytes,
        extensions: of("EXTENSION").into_iter().map(extension).collect(),
        owners: owners.into_iter().collect(),
        roles: roles.into_iter().filter(|role| !role.starts_with("pg_")).collect(),
        settings: properties.settings,
        grants: granted,
        large_objects: counted.large_objects,
        globals: None,
        lacks: vec![
            "the versions of its extensions, and the server's own roles: an older dump does not say them".to_owned(),
        ],
    })
}
