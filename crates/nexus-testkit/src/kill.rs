//! Runs a program of the workspace, and ends it at the worst moment.
//!
//! The child stays in the test's process group, so that nextest ends it together with a test that hangs.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How often a waiting test looks whether the child has ended: nothing wakes it for that.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const BYTES_AT_A_TIME: usize = 8192;

/// A running child whose output is collected. Dropped, it is killed.
pub struct Running {
    child: Child,
    output: Arc<Collected>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Collected {
    streams: Mutex<[Vec<u8>; 2]>,
    grown: Condvar,
}

/// Runs `command` to its end, within `limit`; a child that takes longer is killed and fails the test.
pub fn run(command: Command, limit: Duration) -> Output {
    Running::start(command).wait(limit)
}

/// Runs `command` and kills it (`SIGKILL`) after `moment`, unless it has ended before.
pub fn run_and_kill_after(command: Command, moment: Duration) -> Output {
    let mut running = Running::start(command);
    if running.ended_within(moment).is_none() {
        running.kill();
    }
    running.wait(Duration::from_secs(10))
}

impl Running {
    /// Starts `command` with nothing on its standard input.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|cause| panic!("cannot start {command:?}: {cause}"));
        let output = Arc::<Collected>::default();
        let stdout = child.stdout.take().expect("it was asked for");
        let stderr = child.stderr.take().expect("it was asked for");
        let readers = vec![collect(stdout, 0, &output), collect(stderr, 1, &output)];
        Self { child, output, readers }
    }

    /// The id of the child.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the child without a chance to clean up.
    pub fn kill(&self) {
        self.send(Signal::KILL);
    }

    /// What Ctrl-C does.
    pub fn interrupt(&self) {
        self.send(Signal::INT);
    }

    /// Waits until standard output or standard error contains `text`; false if the child ends without it.
    pub fn wait_for_text(&mut self, text: &str, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.ended_within(Duration::ZERO).is_some();
            if ended {
                self.join_readers();
            }
            if self.output.contains(text) {
                return true;
            }
            if ended {
                return false;
            }
            assert!(Instant::now() < deadline, "`{text}` did not appear within {limit:?}");
            self.output.wait(LOOK_EVERY);
        }
    }

    /// Waits until the child ends; after `limit` it is killed and the test fails with what it had said.
    pub fn wait(mut self, limit: Duration) -> Output {
        let Some(status) = self.ended_within(limit) else {
            self.kill();
            self.join_readers();
            panic!("still running after {limit:?}: {}", self.output.text());
        };
        self.join_readers();
        let [stdout, stderr] = std::mem::take(&mut *self.output.lock());
        Output { status, stdout, stderr }
    }

    /// How the child ended, if it does within `limit`.
    pub fn ended_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.child.try_wait().expect("the child is ours to wait for");
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            self.output.wait(LOOK_EVERY);
        }
    }

    fn send(&self, signal: Signal) {
        // A child that has ended keeps its id until it is waited for, so no stranger is hit.
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a child has an id"), signal).ok();
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader only reads");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Collected {
    fn lock(&self) -> std::sync::MutexGuard<'_, [Vec<u8>; 2]> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, limit: Duration) {
        drop(self.grown.wait_timeout(self.lock(), limit));
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().concat()).into_owned()
    }

    fn contains(&self, text: &str) -> bool {
        self.lock().iter().any(|stream| String::from_utf8_lossy(stream).contains(text))
    }
}

fn collect(mut stream: impl Read + Send + 'static, which: usize, output: &Arc<Collected>) -> JoinHandle<()> {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut bytes = [0; BYTES_AT_A_TIME];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            output.lock()[which].extend_from_slice(&bytes[..count]);
            output.grown.notify_all();
        }
    })
}
