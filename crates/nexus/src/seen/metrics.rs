//! The file that Prometheus reads by way of `node_exporter`'s textfile collector.
//!
//! Several verbs write the same file, each its own run and what the vault says by then. What others wrote is kept.
//! The format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nexus_core::error::{Error, Result};
use nexus_core::point::{Depth, Proof, Verdict};
use nexus_core::vault::PointState;

use super::super::commands::state::{State, size};
use crate::run::Run;

/// The first line: a file that begins with another one is not ours.
const MARK: &str = "# Written by nexus: format 1.";
/// The largest file that is read back.
const LARGEST: u64 = 16 * 1024 * 1024;
/// How long the vault may be asked at the end.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is written, each with what it means.
const SERIES: [(&str, &str); 18] = [
    ("nexus_run_started_timestamp_seconds", "When the last run of the verb began."),
    ("nexus_run_ended_timestamp_seconds", "When the last run of the verb that came to its end did."),
    ("nexus_run_duration_seconds", "How long that took."),
    ("nexus_run_exit_status", "The exit status of that run."),
    ("nexus_run_success_timestamp_seconds", "When the last run of the verb with exit status 0 ended."),
    ("nexus_run_running", "1 from the beginning of a run to its end; one that was killed leaves it at 1."),
    ("nexus_points", "Points of the vault, by label and state."),
    ("nexus_point_committed_timestamp_seconds", "When the newest point was committed."),
    ("nexus_point_proven_timestamp_seconds", "When the newest point that is proven now was committed."),
    ("nexus_point_bytes", "Bytes that the newest point brings back."),
    ("nexus_point_objects", "Files of the newest point."),
    ("nexus_point_rows", "Rows of the newest point's records."),
    ("nexus_point_findings", "Findings of the last check of the newest point."),
    ("nexus_point_damaged", "1 when a check found damage in the newest point that none has cleared."),
    ("nexus_proof_timestamp_seconds", "When a point last passed a check of default depth or deeper."),
    ("nexus_drill_timestamp_seconds", "When a point last passed a drill."),
    ("nexus_recovery_seconds", "What bringing a part back took in that drill."),
    ("nexus_written_timestamp_seconds", "When this file was written last."),
];

/// One value.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// A metrics file, and the run that writes it.
pub struct MetricsFile {
    path: PathBuf,
    started: Timestamp,
}

impl MetricsFile {
    /// Writes that the run began, which shows that the file can be written.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] when it is another's; what it cannot be written for.
    pub fn begin(run: &Run, path: PathBuf) -> Result<Self> {
        let begun = Self { path, started: run.clock.now() };
        let _alone = begun.alone()?;
        let mut samples = begun.read()?;
        let of = |name: &str, value: f64| run_sample(run, name, value);
        replace(&mut samples, of("nexus_run_started_timestamp_seconds", seconds(begun.started)));
        replace(&mut samples, of("nexus_run_running", 1.0));
        begun.write(samples, begun.started)?;
        Ok(begun)
    }

    /// Writes how it ended, and what the vault says by then. That it cannot is only told.
    pub async fn end(self, run: &Run, status: u8, hasty: bool) {
        if let Err(error) = self.try_end(run, status, hasty).await {
            run.terminal.warn(&format!("{error}: monitoring still sees this run as running"));
        }
    }

    async fn try_end(&self, run: &Run, status: u8, hasty: bool) -> Result<()> {
        let now = run.clock.now();
        // Asked before the file is read: what others write meanwhile is not to be lost.
        let points = if hasty { None } else { points(run).await };
        let _alone = self.alone()?;
        let mut samples = self.read()?;
        let took = now.duration_since(self.started).as_secs_f64();
        let mut of = |name: &str, value: f64| replace(&mut samples, run_sample(run, name, value));
        of("nexus_run_ended_timestamp_seconds", seconds(now));
        of("nexus_run_duration_seconds", took);
        of("nexus_run_exit_status", f64::from(status));
        of("nexus_run_running", 0.0);
        if status == 0 {
            of("nexus_run_success_timestamp_seconds", seconds(now));
        }
        // A vault that cannot be asked leaves what was known of it.
        if let Some(points) = points {
            let vault = vault_of(run);
            samples.retain(|sample| is_of_run(sample) || sample.labels.get("vault") != Some(&vault));
            samples.extend(facts(&points, &vault));
        }
        self.write(samples, now)
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Keeps other runs from reading and replacing the file at the same time, as long as what it answers lives: a lock on the
    /// folder leaves no file behind.
    fn alone(&self) -> Result<std::fs::File> {
        let what = || format!("cannot write the metrics file `{}`", self.path.display());
        let folder = std::fs::File::open(self.folder()).map_err(|cause| Error::local(what(), cause))?;
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|cause| Error::local(what(), cause.into()))?;
        Ok(folder)
    }

    fn read(&self) -> Result<Vec<Sample>> {
        let what = || format!("cannot read the metrics file `{}`", self.path.display());
        let meta = match std::fs::symlink_metadata(&self.path) {
            Ok(meta) => meta,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(Error::local(what(), cause)),
        };
        let foreign = || Error::Exists {
            what: format!("`{}` is there already, and is no metrics file of nexus", self.path.display()),
        };
        if !meta.is_file() || meta.len() > LARGEST {
            return Err(foreign());
        }
        let bytes = std::fs::read(&self.path).map_err(|cause| Error::local(what(), cause))?;
        let text = String::from_utf8(bytes).map_err(|_| foreign())?;
        if text.lines().next() != Some(MARK) {
            return Err(foreign());
        }
        // A line that cannot be understood is lost, not the run.
        Ok(text.lines().filter(|line| !line.starts_with('#')).filter_map(parse).collect())
    }

    /// Whole or not at all, readable by a collector that is another user.
    fn write(&self, mut samples: Vec<Sample>, now: Timestamp) -> Result<()> {
        let what = || format!("cannot write the metrics file `{}`", self.path.display());
        let written =
            Sample { name: "nexus_written_timestamp_seconds".into(), labels: BTreeMap::new(), value: seconds(now) };
        replace(&mut samples, written);
        let folder = self.folder();
        // The collector reads what ends with `.prom`, and not this.
        let mut file = tempfile::Builder::new()
            .prefix(".nexus-metrics-")
            .tempfile_in(folder)
            .map_err(|cause| Error::local(what(), cause))?;
        let done = file
            .write_all(text(&samples).as_bytes())
            .and_then(|()| file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)))
            .and_then(|()| file.as_file().sync_all());
        done.map_err(|cause| Error::local(what(), cause))?;
        file.persist(&self.path).map_err(|cause| Error::local(what(), cause.error))?;
        nexus_core::local::sync_folder(folder)
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

/// The vault as a label: no address of ours holds a secret.
fn vault_of(run: &Run) -> String {
    run.settings.vault.as_ref().map(|vault| vault.value.to_string()).unwrap_or_default()
}

fn run_sample(run: &Run, name: &str, value: f64) -> Sample {
    let labels = [("vault".to_owned(), vault_of(run)), ("verb".to_owned(), run.verb.to_owned())].into();
    Sample { name: name.to_owned(), labels, value }
}

fn is_of_run(sample: &Sample) -> bool {
    sample.labels.contains_key("verb")
}

fn replace(samples: &mut Vec<Sample>, new: Sample) {
    samples.retain(|sample| sample.name != new.name || sample.labels != new.labels);
    samples.push(new);
}

async fn points(run: &Run) -> Option<(String, Vec<PointState>)> {
    let asked = async {
        let vault = run.vault().await?;
        let points = vault.points().await?;
        Ok::<_, Error>((vault.app().to_owned(), points))
    };
    tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()
}

/// What the vault says, by label; the points of a restore are nobody's success.
fn facts((app, points): &(String, Vec<PointState>), vault: &str) -> Vec<Sample> {
    let mut samples = Vec::new();
    let labels: BTreeSet<&str> =
        points.iter().filter(|point| !point.id.label().is_safety()).map(|point| point.id.label().as_str()).collect();
    for label in labels {
        let of = |name: &str, more: Option<(&str, &str)>, value: f64| {
            let all = [("app", app.as_str()), ("vault", vault), ("label", label)].into_iter().chain(more);
            let labels = all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            Sample { name: name.to_owned(), labels, value }
        };
        let mine: Vec<&PointState> = points.iter().filter(|point| point.id.label().as_str() == label).collect();
        let mut states: BTreeMap<&str, u32> = BTreeMap::new();
        for point in &mine {
            *states.entry(State::of(point).word()).or_default() += 1;
        }
        samples.extend(
            states.into_iter().map(|(state, count)| of("nexus_points", Some(("state", state)), f64::from(count))),
        );
        // The newest come first.
        let committed = mine.iter().find_map(|point| Some((point, point.manifest()?)));
        if let Some((point, manifest)) = committed {
            samples.push(of("nexus_point_committed_timestamp_seconds", None, seconds(manifest.committed)));
            samples.push(of("nexus_point_bytes", None, number(size(manifest, &point.journal))));
            let files = manifest.parts.files.as_ref().map_or(0, |files| files.total.files);
            samples.push(of("nexus_point_objects", None, number(files)));
            let rows = manifest.parts.records.as_ref().map_or(0, |records| records.rows);
            samples.push(of("nexus_point_rows", None, number(rows)));
            let findings = point.journal.proofs().next_back().map_or(0, |(_, proof)| proof.findings_total);
            samples.push(of("nexus_point_findings", None, number(findings)));
            samples.push(of("nexus_point_damaged", None, if point.journal.failed() { 1.0 } else { 0.0 }));
        }
        if let Some(manifest) = mine.iter().find(|point| point.is_proven()).and_then(|point| point.manifest()) {
            samples.push(of("nexus_point_proven_timestamp_seconds", None, seconds(manifest.committed)));
        }
        let passed = |wanted: &dyn Fn(&Proof) -> bool| {
            let proofs = mine.iter().flat_map(|point| point.journal.proofs());
            let passed = proofs.filter(|(_, proof)| proof.verdict == Verdict::Verified && wanted(proof));
            passed.max_by_key(|(at, _)| *at).map(|(at, proof)| (at, proof.clone()))
        };
        if let Some((at, _)) = passed(&|proof| proof.depth >= Depth::Default) {
            samples.push(of("nexus_proof_timestamp_seconds", None, seconds(at)));
        }
        if let Some((at, proof)) = passed(&|proof| !proof.measured.is_empty()) {
            samples.push(of("nexus_drill_timestamp_seconds", None, seconds(at)));
            for (part, measured) in &proof.measured {
                let took = Duration::from_millis(measured.milliseconds).as_secs_f64();
                samples.push(of("nexus_recovery_seconds", Some(("part", part.name())), took));
            }
        }
    }
    samples
}

#[expect(clippy::cast_precision_loss, reason = "a sample is a float, and nobody counts bytes beyond 2^53")]
fn number(value: u64) -> f64 {
    value as f64
}

/// The file: each series with its help, in a fixed order.
fn text(samples: &[Sample]) -> String {
    let mut text = format!("{MARK}\n");
    for (name, help) in SERIES {
        let mut mine: Vec<&Sample> = samples.iter().filter(|sample| sample.name == name).collect();
        if mine.is_empty() {
            continue;
        }
        mine.sort_by(|left, right| left.labels.cmp(&right.labels));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for sample in mine {
            let labels: Vec<String> =
                sample.labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{name}{labels} {}", sample.value);
        }
    }
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A line that [`text`] wrote.
fn parse(line: &str) -> Option<Sample> {
    let (name, rest) = match line.find('{') {
        Some(at) => line.split_at(at),
        None => line.split_once(' ').map(|(name, _)| (name, &line[name.len()..]))?,
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_prefix('{').unwrap_or(rest);
    while !rest.starts_with(['}', ' ']) {
        let (label, after) = rest.split_once("=\"")?;
        let (mut value, mut letters) = (String::new(), after.char_indices());
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, letter) => value.push(letter),
            }
        };
        labels.insert(label.trim_start_matches(',').to_owned(), value);
        rest = &after[end + 1..];
    }
    let value = rest.trim_start_matches('}').trim().parse().ok()?;
    SERIES.iter().any(|(known, _)| *known == name).then(|| Sample { name: name.to_owned(), labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let sample = |name: &str, labels: &[(&str, &str)], value: f64| Sample {
            name: name.to_owned(),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            value,
        };
        let samples = vec![
            sample("nexus_run_exit_status", &[("vault", "s3://a/b"), ("verb", "drill")], 2.0),
            sample("nexus_points", &[("label", "x"), ("vault", "/a \"b\"\\c\n,d={}")], 3.0),
            sample("nexus_written_timestamp_seconds", &[], 1_763_188_953.25),
        ];
        let text = text(&samples);
        assert!(text.starts_with(MARK) && text.contains("# TYPE nexus_points gauge\n"), "{text}");
        let read: Vec<Sample> = text.lines().filter(|line| !line.starts_with('#')).filter_map(parse).collect();
        assert_eq!(read.len(), samples.len());
        assert!(samples.iter().all(|sample| read.contains(sample)), "{read:?}");
    }
}
