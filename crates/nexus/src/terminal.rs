//! The only file that prints: pages and JSON on stdout; progress, notes, warnings and errors on stderr; the log.
//!
//! A closed stdout (`| head`) ends the printing, not the work.

mod log;
mod progress;

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nexus_core::error::{Error, Result};
use nexus_core::event::{Event, Events};
use serde::Serialize;

use crate::cli::OutputArgs;
use crate::page::{Page, Style};
use crate::wording::escaped;
use log::Log;
use progress::Progress;

/// What an answer that did not arrive was meant for.
const STDOUT: &str = "stdout";

/// The terminal, and what stands in for it; clones share it.
#[derive(Clone)]
pub struct Terminal(Arc<Shared>);

struct Shared {
    json: bool,
    quiet: bool,
    looks: Looks,
    answers: Answers,
    log: Option<Arc<Mutex<Log>>>,
    progress: Mutex<Progress>,
    lost: Mutex<Option<Lost>>,
    /// Whether anything was printed on stdout.
    answered: AtomicBool,
}

/// What did not arrive, and why.
type Lost = (&'static str, io::Error);

/// Where answers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    Stdout,
    Stderr,
    Nowhere,
}

/// What the streams are.
#[expect(clippy::struct_excessive_bools, reason = "each is a claim of its own about a stream")]
#[derive(Debug, Clone, Copy)]
struct Looks {
    out: bool,
    colour_out: bool,
    colour_err: bool,
    draws: bool,
    asks: bool,
}

impl Looks {
    /// Looks at this process's streams; `NO_COLOR` is respected (<https://no-color.org>).
    fn of_this_process(no_colour: bool) -> Self {
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            out,
            colour_out: out && !no_colour,
            colour_err: err && !no_colour,
            draws: err,
            asks: err && io::stdin().is_terminal(),
        }
    }
}

impl Terminal {
    /// Opens the terminal, and the log file where one is asked for.
    pub fn open(output: &OutputArgs, no_colour: bool) -> Result<Self> {
        let log = output.log_file.as_deref().map(Log::open).transpose()?;
        Ok(Self::with(output, no_colour, log))
    }

    /// The terminal without a log file: for what must be said before or instead of one.
    pub fn unlogged(output: &OutputArgs, no_colour: bool) -> Self {
        Self::with(output, no_colour, None)
    }

    /// A terminal for work whose own answers nobody is to see; warnings, errors and progress stay.
    pub fn silent(&self) -> Self {
        self.with_answers(Answers::Nowhere)
    }

    /// A terminal for work during which stdout is another program's: answers go to stderr, as notes do.
    pub fn off_stdout(&self) -> Self {
        self.with_answers(Answers::Stderr)
    }

    fn with_answers(&self, answers: Answers) -> Self {
        let shared = &self.0;
        let draws = shared.looks.draws && !shared.quiet;
        Self(Arc::new(Shared {
            json: false,
            quiet: shared.quiet,
            answers,
            looks: shared.looks,
            log: shared.log.clone(),
            progress: Mutex::new(Progress::new(draws)),
            lost: Mutex::new(None),
            answered: AtomicBool::new(false),
        }))
    }

    fn with(output: &OutputArgs, no_colour: bool, log: Option<Log>) -> Self {
        let looks = Looks::of_this_process(no_colour);
        Self(Arc::new(Shared {
            json: output.json,
            quiet: output.quiet,
            answers: Answers::Stdout,
            looks,
            log: log.map(|log| Arc::new(Mutex::new(log))),
            progress: Mutex::new(Progress::new(looks.draws && !output.quiet)),
            lost: Mutex::new(None),
            answered: AtomicBool::new(false),
        }))
    }

    /// True when stdout is for JSON alone.
    pub fn wants_json(&self) -> bool {
        self.0.json
    }

    /// True when a person sits there and can be asked.
    pub fn can_ask(&self) -> bool {
        self.0.looks.asks
    }

    /// Prints the answer: the page, or the value where JSON is wanted. The log gets the page.
    pub fn answer<T: Serialize>(&self, page: &Page, value: &T) {
        if self.0.answers == Answers::Stderr {
            return self.aside(page);
        }
        self.log(page.text(false).trim_end());
        if self.0.json { self.json(value) } else { self.raw(&page.text(self.0.looks.colour_out)) }
    }

    /// Prints a value as JSON.
    pub fn json<T: Serialize>(&self, value: &T) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.raw(&format!("{text}\n")),
            Err(cause) => self.lose(STDOUT, cause.into()),
        }
    }

    /// True when something was printed on stdout: a second document behind it would make JSON of neither.
    pub fn has_answered(&self) -> bool {
        self.0.answered.load(Ordering::Relaxed)
    }

    /// Prints a text that the program itself made, as it is: help, scripts, configuration.
    pub fn raw(&self, text: &str) {
        if self.0.answers == Answers::Nowhere {
            return;
        }
        self.0.answered.store(true, Ordering::Relaxed);
        self.progress().pause(|| {
            let mut out = io::stdout().lock();
            if let Err(cause) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                self.lose(STDOUT, cause);
            }
        });
    }

    /// Prints a line of data: as it is for a program, and with what would move the cursor spelled out on a terminal.
    pub fn line(&self, text: &str) {
        if self.0.looks.out { self.raw(&format!("{}\n", escaped(text))) } else { self.raw(&format!("{text}\n")) }
    }

    /// True when stdout is a terminal, where the content of a file has no place.
    pub fn shows_stdout(&self) -> bool {
        self.0.looks.out
    }

    /// Copies a file to stdout, byte for byte.
    ///
    /// # Errors
    ///
    /// [`Error::Local`] when it cannot be read, or stdout takes no more: then not all of it arrived.
    pub fn copy(&self, from: &Path) -> Result<()> {
        self.clear();
        let mut out = io::stdout().lock();
        let mut file = File::open(from).map_err(|cause| Error::local("cannot read what was fetched", cause))?;
        io::copy(&mut file, &mut out)
            .and_then(|_| out.flush())
            .map_err(|cause| Error::local("cannot write all of it to stdout", cause))
    }

    /// Prints a page on stderr: what a person reads beside the answer.
    pub fn aside(&self, page: &Page) {
        self.log(page.text(false).trim_end());
        if !self.0.quiet {
            self.err(&page.text(self.0.looks.colour_err));
        }
    }

    /// Prints a note on stderr.
    pub fn note(&self, text: &str) {
        self.log(&escaped(text));
        if !self.0.quiet {
            self.err(&format!("{}\n", escaped(text)));
        }
    }

    /// Prints a warning on stderr.
    pub fn warn(&self, text: &str) {
        self.labelled("warning", Style::Doubtful, text);
    }

    /// Prints an error on stderr, its causes once each, and what to do about it.
    pub fn error(&self, lines: &[String], hint: Option<&str>) {
        let mut lines = lines.iter();
        self.labelled("error", Style::Bad, lines.next().map_or("", String::as_str));
        for cause in lines {
            self.labelled("  because", Style::Faint, cause);
        }
        if let Some(hint) = hint {
            self.labelled("hint", Style::Strong, hint);
        }
    }

    /// Prints on stderr whom to ask.
    pub fn contacts(&self, contacts: &std::collections::BTreeMap<String, String>) {
        for (name, reached) in contacts {
            self.labelled("contact", Style::Strong, &format!("{name}: {reached}"));
        }
    }

    /// Prints what the parser of the command line says, on the stream it belongs to.
    pub fn usage(&self, error: &clap::Error) {
        let text = error.render();
        if error.use_stderr() {
            let colour = self.0.looks.colour_err;
            self.err(&if colour { text.ansi().to_string() } else { text.to_string() });
        } else {
            let colour = self.0.looks.colour_out;
            self.raw(&if colour { text.ansi().to_string() } else { text.to_string() });
        }
    }

    /// Asks a question on stderr and waits for a line; `None` at the end of input. Only call it when [`Self::can_ask`].
    pub fn ask(&self, question: &str) -> Option<String> {
        self.err(&format!("{} ", escaped(question)));
        let mut line = String::new();
        // A terminal that cannot be read is one where nobody answers.
        let count = io::stdin().lock().read_line(&mut line).unwrap_or(0);
        (count > 0).then(|| line.trim().to_owned())
    }

    /// The callback that shows what happens.
    pub fn events(&self) -> Events {
        let terminal = self.clone();
        Events::new(move |event| terminal.event(event))
    }

    /// Where a child of ours says what it says: standard error, since standard output is for the answer alone.
    pub fn for_children(&self) -> Stdio {
        self.clear();
        io::stderr().as_fd().try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from)
    }

    /// Takes the bars away.
    pub fn clear(&self) {
        self.progress().clear();
    }

    /// Fails when something for stdout or the log did not arrive; a reader that closed it is no failure.
    pub fn check(&self) -> Result<()> {
        match locked(&self.0.lost).take() {
            Some((place, cause)) => Err(Error::local(format!("cannot write to {place}"), cause)),
            None => Ok(()),
        }
    }

    fn event(&self, event: Event) {
        match event {
            Event::Started { stage, items, bytes } => {
                self.log(&format!("{}: started", stage.title()));
                self.progress().start(stage, items, bytes);
            }
            Event::Advanced { stage, items, bytes } => {
                let line = self.progress().advance(stage, items, bytes);
                if let Some(line) = line {
                    self.log(&line);
                }
            }
            Event::Ended { stage } => {
                let line = self.progress().end(stage);
                if let Some(line) = line {
                    self.note(&line);
                }
            }
            Event::Warning(text) => self.warn(&text),
            Event::Note(text) => self.note(&text),
        }
    }

    fn labelled(&self, label: &str, style: Style, text: &str) {
        let text = escaped(text);
        self.log(&format!("{label}: {text}"));
        let label = style.paint(&format!("{label}:"), self.0.looks.colour_err);
        self.err(&format!("{label} {text}\n"));
    }

    fn err(&self, text: &str) {
        // Nobody can be told that stderr is closed.
        self.progress().pause(|| {
            let _ = io::stderr().lock().write_all(text.as_bytes());
        });
    }

    fn log(&self, text: &str) {
        if let Some(log) = &self.0.log
            && let Err(cause) = locked(log).write(text)
        {
            self.lose("the log file", cause);
        }
    }

    fn lose(&self, place: &'static str, cause: io::Error) {
        if cause.kind() != io::ErrorKind::BrokenPipe {
            locked(&self.0.lost).get_or_insert((place, cause));
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        locked(&self.0.progress)
    }
}

/// A lock whose last holder may have panicked: what is behind it is only ever shown.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
