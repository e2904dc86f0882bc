//! Applications that have a `SQLite` database open: one that was killed, one that holds on.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::kill;
use crate::services::python;

const LIMIT: Duration = Duration::from_mins(1);

/// Another process that keeps a database open and answers SQL from that same connection.
pub struct Holder {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Runs `statements` in WAL mode in a process that is killed before it can check the log in.
///
/// What they committed lies in the `-wal` beside `database` and not yet in the database itself. The
/// path of that `-wal` is returned.
pub fn leave_live_wal(database: &Path, statements: &[&str]) -> PathBuf {
    let mut command = script("wal_writer.py");
    command.arg(database).args(statements);
    let output = kill::run(command, LIMIT);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.code().is_none() && said.trim_end() == "committed",
        "the writer did not get to its kill: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    let log = PathBuf::from(log);
    let bytes = std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
    assert!(bytes > 0, "no live {}", log.display());
    log
}

impl Holder {
    /// Opens `database` in another process, in whichever journal mode the file is in, and reads it once.
    pub fn open(database: &Path) -> Self {
        let mut child = script("wal_holder.py")
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cannot start Python");
        let questions = child.stdin.take().expect("it was asked for");
        let answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut holder = Self { child, questions, answers };
        holder.query("SELECT count(*) FROM sqlite_master");
        holder
    }

    /// Runs one statement of one line and returns its rows, an array of arrays.
    ///
    /// Blobs come as their hexadecimal digits. A statement that fails is a panic with `SQLite`'s words.
    pub fn query(&mut self, sql: &str) -> serde_json::Value {
        self.try_query(sql).unwrap_or_else(|cause| panic!("`{sql}`: {cause}"))
    }

    /// The same, for a test that wants to see the failure: what `SQLite` said.
    ///
    /// # Errors
    ///
    /// The statement failed in the other process.
    pub fn try_query(&mut self, sql: &str) -> Result<serde_json::Value, String> {
        assert!(!sql.contains('\n'), "a statement is one line here");
        writeln!(self.questions, "{sql}").expect("the holder has gone");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the holder has gone");
        let mut answer: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the holder said `{line}`"));
        match answer["error"].as_str() {
            Some(cause) => Err(cause.to_owned()),
            None => Ok(answer["rows"].take()),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name));
    command
}
