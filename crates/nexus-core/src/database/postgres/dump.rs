//! A dump of an instant while `pg_dump` makes it, and the server's roles beside it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout};
use tokio::sync::mpsc;

use super::archive::{self, Broken, Layout};
use super::instant::{Company, PostgresInstant, Reading, Stop};
use super::place::PostgresDatabase;
use super::press::{self, Press};
use super::rows::client_encoding;
use super::tools::{self, Access, Program};
use super::words::without_rows;
use crate::error::{Error, Result};
use crate::event::Events;
use crate::local::{self, Scratch};
use crate::point::{FileHash, hexadecimal};

/// How much of a dump is read at a time.
const CHUNK: usize = 256 * 1024;
/// Pieces of a dump that wait to be stored.
const CHUNKS: usize = 16;
/// How much `pg_dump` may write before anybody reads it.
const PIPE: usize = 1024 * 1024;
/// The compression of a `pg_dump` that has it: better than any that every `pg_restore` reads.
const ZSTD: &str = "zstd:3";

/// A `pg_dump` that has its locks and stands ready.
#[derive(Debug)]
pub(super) struct Dump {
    child: Child,
    stdout: ChildStdout,
    first: Bytes,
    /// What its archive is when it is to be compressed on the way.
    plain: Option<Layout>,
    /// What made it.
    pub(super) client: String,
    /// How it is compressed.
    pub(super) compression: &'static str,
}

/// Starts a dump and waits for its first bytes: it locks every table before it writes anything.
pub(super) async fn start_dump(
    company: &Company<'_>,
    program: Program,
    encoding: &str,
    scratch: &Scratch,
) -> std::result::Result<Dump, Stop> {
    let what = dump_of(company.database);
    let access = Access::prepare(company.database, scratch)?.called(&company.name());
    let mut command = access.command(&program, &company.holder.watching());
    command.arg("--format=custom").arg(format!("--snapshot={}", company.snapshot));
    command.arg(format!("--lock-wait-timeout={}", company.lock_wait.as_millis().max(1)));
    command.arg(format!("--encoding={}", client_encoding(encoding)));
    let zstd = program.major >= 16 && tools::takes(&program, ZSTD).await;
    // With gzip `pg_dump` compresses slowly, and while it does it reads nothing from the server.
    command.arg(format!("--compress={}", if zstd { ZSTD } else { "0" }));
    let failed = |cause| Error::local(format!("cannot run `{}`", program.path.display()), cause);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let mut stdout = child.stdout.take().expect("it was piped");
    let first = read_head(&mut stdout).await.map_err(failed)?;
    if first.is_empty() {
        let words = tools::last_words(child.stderr.take()).await;
        let status = child.wait().await.map_err(failed)?;
        if words.contains("lock timeout") {
            return Err(Stop::Again("pg_dump waited too long for a lock".to_owned()));
        }
        if words.contains("deadlock detected") {
            return Err(Stop::Again("the locks of another session cross those of pg_dump".to_owned()));
        }
        tools::require_success(&what, status, &words)?;
        return Err(Stop::Failed(Error::damaged(format!("{what}: pg_dump wrote nothing"))));
    }
    let plain = Layout::of(&first).filter(|_| !zstd);
    let compression = match plain {
        Some(_) => archive::COMPRESSION,
        None if zstd => ZSTD,
        // What is not understood is stored as it is.
        None => "none",
    };
    Ok(Dump { child, stdout, first, plain, client: format!("pg_dump {}", program.version), compression })
}

/// Hands on what `pg_dump` writes until it ends well, and answers what it warned of.
async fn read_dump(dump: Dump, what: &str, send: &mpsc::Sender<Result<Bytes>>) -> Result<String> {
    let Dump { mut child, stdout, first, plain, .. } = dump;
    let failed = |cause| Error::local(what.to_owned(), cause);
    // Without the right to a large pipe it stays as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE);
    let words = tokio::spawn(tools::last_words(child.stderr.take()));
    let written = first.reader().chain(File::from(stdout.into_owned_fd().map_err(failed)?));
    let (press, work, mut pressed) = press::press();
    let reading = tokio::task::spawn_blocking(move || pass(plain, BufReader::with_capacity(CHUNK, written), press));
    let working: Vec<_> = work.into_iter().map(|work| tokio::task::spawn_blocking(|| work.run())).collect();
    while let Some(piece) = pressed.next().await {
        // Whoever takes them has gone away: then this is dropped, `pg_dump` with it, and then the threads end.
        let _ = send.send(Ok(piece)).await;
    }
    let taken = pressed.taken;
    drop(pressed);
    for thread in working {
        thread.await.map_err(io::Error::other).flatten().map_err(failed)?;
    }
    let read = reading.await.map_err(|cause| failed(io::Error::other(cause)))?;
    match read {
        Ok(dealt) if dealt == taken => {}
        Ok(_) => return Err(Error::damaged(format!("{what}: a part of it was lost on the way"))),
        Err(Broken::Cut) => {}
        Err(Broken::Malformed(how)) => return Err(Error::damaged(format!("{what}: pg_dump wrote no archive: {how}"))),
        Err(Broken::Failed(cause)) => return Err(failed(cause)),
    }
    let status = child.wait().await.map_err(failed)?;
    let words = words.await.unwrap_or_default();
    tools::require_success(what, status, &words)?;
    if read.is_err() {
        return Err(Error::damaged(format!("{what}: pg_dump ended in the middle of its archive")));
    }
    Ok(words)
}

/// Hands on an archive, compressed when it is of a layout that is understood, else as it is.
fn pass(plain: Option<Layout>, mut archive: impl BufRead, mut press: Press) -> std::result::Result<usize, Broken> {
    if let Some(layout) = plain {
        return archive::compress(layout, archive, press);
    }
    loop {
        let there = archive.fill_buf().map_err(Broken::Failed)?;
        if there.is_empty() {
            return press.finish().map_err(Broken::Failed);
        }
        press.plain(there).map_err(Broken::Failed)?;
        let passed = there.len();
        archive.consume(passed);
    }
}

fn dump_of(database: &PostgresDatabase) -> String {
    format!("cannot dump {}", database.location())
}

/// The first bytes, enough to tell what the archive is; fewer when it ends before.
async fn read_head(stdout: &mut ChildStdout) -> std::io::Result<Bytes> {
    let mut head = BytesMut::with_capacity(CHUNK);
    while head.len() < archive::HEAD && stdout.read_buf(&mut head).await? > 0 {}
    Ok(head.freeze())
}

impl PostgresDatabase {
    /// Writes the server's roles and tablespaces to a private file, without passwords.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] or [`Error::Service`] when the role may not read them.
    pub async fn globals(&self, instant: &PostgresInstant, scratch: &Scratch) -> Result<(PathBuf, FileHash)> {
        let program = tools::program(self, "pg_dumpall", instant.holder.major()).await?;
        let what = format!("cannot read the roles of {}", self.location());
        let mut command = Access::prepare(self, scratch)?.command(&program, "");
        command.args(["--globals-only", "--no-role-passwords", "--database"]).arg(&self.name);
        let failed = |cause| Error::local(format!("cannot run `{}`", program.path.display()), cause);
        let output = command.stdin(Stdio::null()).output().await.map_err(failed)?;
        tools::require_success(&what, output.status, String::from_utf8_lossy(&output.stderr).trim())?;
        let path = scratch.file("globals.sql");
        let written = local::create_private(&path)?.write_all(&output.stdout);
        written.map_err(|cause| Error::local(format!("cannot write `{}`", path.display()), cause))?;
        let sha256 = hexadecimal(&Sha256::digest(&output.stdout));
        Ok((path, FileHash { bytes: output.stdout.len() as u64, sha256 }))
    }
}

impl PostgresInstant {
    /// The dump as it is made: it ends well only after `pg_dump` did. What `pg_dump` warns of is told.
    pub fn take_dump(&mut self, database: &PostgresDatabase, events: &Events) -> Option<Reading> {
        let dump = self.dump.take()?;
        let what = dump_of(database);
        let (events, warned) = (events.clone(), Arc::clone(&self.warned));
        let (send, receive) = mpsc::channel(CHUNKS);
        // On its own: whoever stores the dump hashes and sends meanwhile, and `pg_dump` need not wait for that.
        tokio::spawn(async move {
            let gone = send.clone();
            let reading = read_dump(dump, &what, &send);
            let outcome = tokio::select! { outcome = reading => outcome, () = gone.closed() => return };
            let last = match outcome {
                Ok(words) => {
                    let words = without_rows(&words);
                    if !words.is_empty() {
                        events.warn(format!("pg_dump: {words}"));
                        // It is told once, by the task that read it.
                        let _ = warned.set(words);
                    }
                    Ok(Bytes::new())
                }
                Err(error) => Err(error),
            };
            // Whoever read it has gone away and says why.
            let _ = send.send(last).await;
        });
        let broken = dump_of(database);
        let chunks = stream::try_unfold(Some(receive), move |receive| {
            let broken = broken.clone();
            async move {
                let Some(mut receive) = receive else { return Ok(None) };
                match receive.recv().await {
                    // Only an empty one says that the dump came to its end.
                    Some(Ok(chunk)) if chunk.is_empty() => Ok(None),
                    Some(Ok(chunk)) => Ok(Some((chunk, Some(receive)))),
                    Some(Err(error)) => Err(error),
                    None => Err(Error::damaged(format!("{broken}: it broke off"))),
                }
            }
        });
        Some(chunks.boxed())
    }
}
