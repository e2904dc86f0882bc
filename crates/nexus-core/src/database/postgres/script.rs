//! A dump as one script through `psql`, where `pg_restore` cannot connect by itself: everything in one transaction, or a
//! server that is older than the `pg_restore` at hand.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};

use super::tools::{self, Access, Program};
use crate::error::{Error, Result};

/// What `pg_restore` 17 and newer set, and a server that is older does not know.
const UNKNOWN_BEFORE_17: &[u8] = b"SET transaction_timeout = 0;\n";
/// The first major version of `pg_restore` that sets it.
const SETS_TRANSACTION_TIMEOUT: u32 = 17;
/// The longest beginning of a script that is looked through for settings, lines.
const HEADER: usize = 100;

/// True when `pg_restore` of this version cannot restore into this server by itself: it would stop at a setting.
pub(super) fn is_needed(program: &Program, server: u32) -> bool {
    program.major >= SETS_TRANSACTION_TIMEOUT && server < SETS_TRANSACTION_TIMEOUT
}

/// What runs before and after the dump, in the same session.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// SQL before the dump's.
    pub(super) before: String,
    /// SQL after it; sent only when `pg_restore` has ended well.
    pub(super) after: String,
}

/// Sends what `pg_restore` writes through `psql`, which stops at the first error.
///
/// `restore` is a prepared `pg_restore` without its output. A session that is cut off before `after` was sent commits
/// nothing that `before` began.
pub(super) async fn run(
    access: &Access,
    program: &Program,
    restore: Command,
    around: &Around,
    what: &str,
) -> Result<()> {
    let psql = Program { path: sibling(&program.path, "psql")?, ..program.clone() };
    let mut writing = access.command(&psql, "");
    writing.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]);
    writing.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut reading = restore;
    reading.arg("--file=-").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = |command: &mut Command, program: &Path| {
        command.spawn().map_err(|cause| Error::local(format!("cannot run `{}`", program.display()), cause))
    };
    let mut writer = start(&mut writing, &psql.path)?;
    let mut reader = start(&mut reading, &program.path)?;
    let (input, output) = (writer.stdin.take(), reader.stdout.take());
    let (writer_words, reader_words) = (writer.stderr.take(), reader.stderr.take());
    let sent = async {
        let mut input = input.expect("it was piped");
        let pumped = pump(output.expect("it was piped"), &mut input, &around.before).await;
        let status = reader.wait().await;
        // The end of the transaction goes only to a script that is whole.
        if let (Ok(()), Ok(status)) = (&pumped, &status)
            && status.success()
        {
            input.write_all(around.after.as_bytes()).await?;
        }
        input.shutdown().await?;
        drop(input);
        pumped?;
        status
    };
    let (sent, said, why) = futures::join!(sent, tools::last_words(writer_words), tools::last_words(reader_words));
    let status = writer.wait().await.map_err(|cause| Error::local(what.to_owned(), cause))?;
    tools::require_success(what, status, &said)?;
    let status = sent.map_err(|cause| Error::local(what.to_owned(), cause))?;
    tools::require_success(what, status, &why)
}

fn sibling(program: &Path, name: &str) -> Result<std::path::PathBuf> {
    let path = program.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Unsupported {
        what: format!("`{}` is needed beside `{}`, and not there", path.display(), program.display()),
    })
}

async fn pump(from: ChildStdout, to: &mut ChildStdin, before: &str) -> io::Result<()> {
    to.write_all(before.as_bytes()).await?;
    let mut from = BufReader::with_capacity(256 * 1024, from);
    let mut line = Vec::new();
    for _ in 0..HEADER {
        line.clear();
        if from.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        if line != UNKNOWN_BEFORE_17 {
            to.write_all(&line).await?;
        }
        if !is_header(&line) {
            break;
        }
    }
    tokio::io::copy_buf(&mut from, to).await?;
    to.flush().await
}

/// True for what comes before the first object: nothing there is data.
fn is_header(line: &[u8]) -> bool {
    let starts = |text: &str| line.starts_with(text.as_bytes());
    line == b"\n" || starts("--") || starts("\\") || starts("SET ") || starts("SELECT pg_catalog.set_config(")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_settings_at_the_beginning_are_looked_through() {
        for line in [
            "--\n",
            "\n",
            "\\restrict abc\n",
            "SET lock_timeout = 0;\n",
            "SELECT pg_catalog.set_config('a', '', false);\n",
        ] {
            assert!(is_header(line.as_bytes()), "{line}");
        }
        for line in ["CREATE TABLE a (\n", "COPY a FROM stdin;\n", "1\tSET\n"] {
            assert!(!is_header(line.as_bytes()), "{line}");
        }
    }
}
