//! `init`: a commented nexus.toml from what is found: flags, `NEXUS_*`, `DATABASE_URL`, AWS settings, a database here, a Django site.

mod databases;
mod django;
mod look;
mod site;

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use nexus_core::bucket::Address;
use nexus_core::error::{Error, Result};
use nexus_core::point::references::Reference;
use nexus_core::references::Likely;
use nexus_core::vault::layout;
use serde_json::json;

use django::Site;
use site::Derived;

use crate::cli::{InitArgs, ServiceArgs, VaultArgs};
use crate::failure::Outcome;
use crate::settings::{Environment, Origin, Setting, Settings};
use crate::terminal::Terminal;
use crate::wording::{command_line, count, escaped, without_passwords};

/// How a `SQLite` file begins (<https://www.sqlite.org/fileformat.html>).
const MAGIC: &[u8] = b"SQLite format 3\0";
/// A folder with more entries than this is not searched for a database.
const MOST_ENTRIES: usize = 10_000;

/// Writes the file, or prints it.
pub async fn run(args: &InitArgs, environment: &Environment, terminal: &Terminal) -> Result<Outcome> {
    let path = environment.folder.join(&args.output);
    if !args.dry_run && path.symlink_metadata().is_ok() {
        return Err(is_taken(&path));
    }
    let site = match &args.django.django {
        Some(named) => Some(django::ask(named, args.django.python.as_deref(), environment).await?),
        None => None,
    };
    let mut found = Found::look(args, environment, site.as_ref())?;
    if args.look {
        found.likely(look::look(&found.text(), &args.source, environment, terminal).await?);
    }
    let text = found.text();
    if !args.dry_run {
        write_new(&path, &text)?;
    }
    for note in &found.notes {
        terminal.note(note);
    }
    let (uncovered, unchecked) = found.left_out();
    for what in uncovered {
        terminal.warn(&format!("not covered by this configuration: {what}"));
    }
    for what in unchecked {
        terminal.warn(&format!("backed up and not checked: {what}"));
    }
    if terminal.wants_json() {
        terminal.json(&json!({
            "uncovered": uncovered,
            "unchecked": unchecked,
            "path": path.display().to_string(),
            "written": !args.dry_run,
            "config": text,
            "notes": found.notes,
        }));
    } else if args.dry_run {
        terminal.raw(&text);
    } else {
        terminal.raw(&format!("{}\n", path.display()));
        terminal.note(&format!("next: {}", next(&args.output, found.vault.is_some())));
    }
    Ok(Outcome::Done)
}

fn next(output: &Path, complete: bool) -> String {
    let output = output.display().to_string();
    let mut words = vec!["nexus", "doctor"];
    if output != crate::settings::CONFIG_NAME {
        words.extend(["--config", &output]);
    }
    let command = command_line(words);
    if complete { format!("`{command}`") } else { format!("name a vault in it, then `{command}`") }
}

fn write_new(path: &Path, text: &str) -> Result<()> {
    let what = format!("cannot write `{}`", path.display());
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|cause| match cause.kind() {
        std::io::ErrorKind::AlreadyExists => is_taken(path),
        _ => Error::local(what, cause),
    })
}

fn is_taken(path: &Path) -> Error {
    Error::usage_hint(
        format!("`{}` is there already, and is left as it is", path.display()),
        "write to another file with --output, or compare with `nexus init --dry-run`",
    )
}

/// What the file will say.
struct Found {
    app: String,
    database: Option<String>,
    files: Option<String>,
    records: Option<String>,
    vault: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    profile: Option<String>,
    /// What a Django site said.
    site: Option<Derived>,
    /// Columns that look as if they named files.
    likely: Vec<Likely>,
    notes: Vec<String>,
}

impl Found {
    fn look(args: &InitArgs, environment: &Environment, asked: Option<&Site>) -> Result<Self> {
        let flags = VaultArgs {
            // An existing configuration is not what a new one is made from.
            config: Some("/dev/null".into()),
            vault: args.vault.clone(),
            endpoint: args.endpoint.clone(),
            region: args.region.clone(),
            profile: args.profile.clone(),
            services: ServiceArgs::default(),
        };
        let settings = Settings::load(environment, &flags, &args.source)?;
        let mut notes = Vec::new();
        let app = match &settings.app {
            Some(app) => app.value.clone(),
            None => folder_name(asked.map_or(&environment.folder, |site| &site.folder)),
        };
        layout::check_app(&app)?;
        let named = settings.files.as_ref().map(|files| &files.value);
        let derive = |asked: &Site| {
            notes.push(format!(
                "asked the Django {} site in {} by {}",
                asked.django,
                asked.folder.display(),
                asked.python.display()
            ));
            site::derive(asked, args.django.django_database.as_deref(), named)
        };
        let mut site = asked.map(derive).transpose()?;
        notes.extend(site.iter_mut().flat_map(|site| std::mem::take(&mut site.notes)));
        if site.is_none() && environment.folder.join("manage.py").is_file() {
            notes.push(
                "a Django site lies here: `nexus init --django manage.py` asks it for models, storages and references"
                    .to_owned(),
            );
        }
        let database = match &site {
            // Django's own settings are what the site works with; only what is said to this very command stands over them.
            Some(site) if !settings.database.as_ref().is_some_and(is_said) => of_site(&settings, site, &mut notes)?,
            _ => database(&settings, environment, &mut notes)?,
        };
        let files = settings.files.as_ref().map(|files| {
            notes.push(format!("files from {}: {}", files.origin, files.value));
            files.value.to_string()
        });
        let files = match &site {
            Some(site) => files.or_else(|| site.files.clone()),
            None => files.or_else(|| bucket_of_django(environment, &mut notes)),
        };
        let of_site = |of: fn(&Derived) -> Option<String>| site.as_ref().and_then(of);
        Ok(Self {
            app,
            database,
            files,
            records: settings.records.as_ref().map(|folder| folder.value.display().to_string()),
            vault: settings.vault.as_ref().map(|vault| vault.value.to_string()),
            endpoint: settings.s3.named_endpoint().or_else(|| of_site(|site| site.endpoint.clone())),
            region: settings.s3.region.map(|setting| setting.value).or_else(|| of_site(|site| site.region.clone())),
            profile: settings.s3.profile.map(|setting| setting.value),
            site,
            likely: Vec::new(),
            notes,
        })
    }

    /// Takes columns that look as if they named files, but for those that the site named.
    fn likely(&mut self, likely: Vec<Likely>) {
        let is_known = |one: &Likely| {
            let site = self.site.iter().flat_map(|site| &site.references);
            site.map(|known| &known.reference)
                .any(|known| known.table == one.reference.table && known.column == one.reference.column)
        };
        self.likely = likely.into_iter().filter(|one| !is_known(one)).collect();
        self.notes.push(match self.likely.as_slice() {
            [] => "looked at every row and file: no other column looks as if it named files".to_owned(),
            some => {
                let names: Vec<String> =
                    some.iter().map(|one| format!("{}.{}", one.reference.table, one.reference.column)).collect();
                format!("looks as if it named files, and stands in the file behind #: {}", names.join(", "))
            }
        });
    }

    fn text(&self) -> String {
        let example = match self.files.as_deref().and_then(|files| files.strip_prefix("s3://")) {
            Some(rest) => format!("s3://{}-backup/{}", rest.split('/').next().unwrap_or(rest), self.app),
            None => format!("/srv/backup/{}", self.app),
        };
        let mut lines = vec![
            "# What `nexus backup` takes, and where it keeps it. docs/config.md has every key.".to_owned(),
            "# Flags and NEXUS_* variables stand over this file; relative paths start at its folder.".to_owned(),
        ];
        lines.extend(self.warnings());
        lines.extend([
            format!("app = {}", quoted(&self.app)),
            "# label = \"backup\"                  # the first word of a point's id".to_owned(),
            String::new(),
            "[database]".to_owned(),
            entry("url", self.database.as_deref(), "sqlite:////srv/app/db.sqlite3"),
            "# lock-wait = \"60s\"".to_owned(),
            String::new(),
            "[files]".to_owned(),
            entry("source", self.files.as_deref(), "s3://bucket/prefix"),
            "# exclude = [\"tmp/**\"]              # the vault's own prefix is always excluded".to_owned(),
            "# copies = \"incremental\"            # \"full\": every point holds all its copies".to_owned(),
            "# [files.categories]                # first match wins; the default goes by extension".to_owned(),
            "# images = [\"*.jpg\", \"*.png\"]".to_owned(),
            String::new(),
            "[records]".to_owned(),
            entry("folder", self.records.as_deref(), "backups"),
            "# vault = true                      # the vault holds them too".to_owned(),
        ]);
        lines.extend(self.rows());
        lines.extend([
            String::new(),
            "[vault]".to_owned(),
            "# Another bucket, better another account, outlives the one it protects.".to_owned(),
            entry("url", self.vault.as_deref(), &example),
            String::new(),
            "[retention]                         # what `nexus prune` keeps; these are the defaults".to_owned(),
            "# database = \"30d\"".to_owned(),
            "# files = \"7d\"".to_owned(),
            "# records = \"90d\"".to_owned(),
            "# keep-last = 3                     # the newest proven points, however old".to_owned(),
            String::new(),
            "[s3]                                # without a value: as the AWS tools find it".to_owned(),
            entry("endpoint", self.endpoint.as_deref(), "https://s3.example.com"),
            entry("region", self.region.as_deref(), "eu-central-1"),
            entry("profile", self.profile.as_deref(), "backup"),
            String::new(),
            "[hooks]                             # around a restore: `after` also when it fails".to_owned(),
            "# before-restore = \"systemctl stop app\"".to_owned(),
            "# after-restore = \"systemctl start app\"".to_owned(),
            String::new(),
            "[contacts]                          # printed when something fails".to_owned(),
            "# database = \"Ana, +43 1 234 56 78\"".to_owned(),
        ]);
        lines.join("\n") + "\n"
    }

    /// The names of records, and the columns that name files.
    fn rows(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let tables = self.site.iter().flat_map(|site| &site.tables);
        let names: Vec<String> = tables.map(|(name, table)| format!("{} = {}", key(name), quoted(table))).collect();
        if names.is_empty() {
            lines.push("# [records.tables]                  # a name for the records of a table".to_owned());
            lines.push("# patients = \"clinic_patient\"".to_owned());
        } else {
            lines.extend([
                String::new(),
                "[records.tables]                    # record names of the site's models".to_owned(),
            ]);
            lines.extend(names);
        }
        let before = lines.len();
        for suggested in self.site.iter().flat_map(|site| &site.references) {
            lines.extend(reference(&suggested.reference, &suggested.comment, suggested.off));
        }
        for Likely { reference: like, values, found } in &self.likely {
            let comment = format!("{} of {} values are keys of files", count(*found), count(*values));
            lines.extend(reference(like, &comment, true));
        }
        if lines.len() == before {
            let (table, column) = ("patients".to_owned(), "photo".to_owned());
            let example = Reference { table, column, prefix: "media/".to_owned(), base: None };
            lines.extend(reference(&example, "a column whose values are keys of files", true));
        }
        lines
    }

    /// What of a site is not backed up, and what is backed up and not checked.
    fn left_out(&self) -> (&[String], &[String]) {
        match &self.site {
            Some(site) => (site.uncovered.as_slice(), site.unchecked.as_slice()),
            None => (&[], &[]),
        }
    }

    /// What the file does not cover, where whoever reads it sees it first.
    fn warnings(&self) -> Vec<String> {
        let (uncovered, unchecked) = self.left_out();
        let mut lines = Vec::new();
        for (head, whats) in [
            ("# NOT COVERED by this file, and so by no backup that is made with it:", uncovered),
            ("# BACKED UP, BUT NOT CHECKED by the references of this file:", unchecked),
        ] {
            if !whats.is_empty() {
                lines.extend(["#".to_owned(), head.to_owned()]);
                lines.extend(whats.iter().map(|what| format!("#   - {}", escaped(what))));
            }
        }
        lines
    }
}

/// A reference with a word on it, behind `#` when it is `off`.
fn reference(reference: &Reference, comment: &str, off: bool) -> Vec<String> {
    let mark = if off { "# " } else { "" };
    let Reference { table, column, prefix, base } = reference;
    let mut lines = vec![String::new(), format!("# {}", escaped(comment)), format!("{mark}[[references]]")];
    lines.push(format!("{mark}table = {}", quoted(table)));
    lines.push(format!("{mark}column = {}", quoted(column)));
    if !prefix.is_empty() {
        lines.push(format!("{mark}prefix = {}", quoted(prefix)));
    }
    lines.extend(base.as_ref().map(|base| format!("{mark}base = {}", quoted(base))));
    lines
}

/// A key as TOML has it: bare where it can be.
fn key(text: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !text.is_empty() && text.bytes().all(bare) { text.to_owned() } else { quoted(text) }
}

/// True for what was said to this program itself.
fn is_said<T>(setting: &Setting<T>) -> bool {
    !matches!(setting.origin, Origin::Variable("DATABASE_URL"))
}

/// The database that a site's settings lead to.
fn of_site(settings: &Settings, site: &Derived, notes: &mut Vec<String>) -> Result<Option<String>> {
    let Some(url) = &site.database else { return Ok(None) };
    let location = settings.database_at(url, Path::new("/"))?.location();
    notes.push(format!("database from the site's DATABASES: {location}"));
    if url.starts_with("postgres") {
        notes.push("its password is not written down: PGPASSWORD or a password file gives it".to_owned());
        return Ok(Some(url.clone()));
    }
    Ok(Some(location))
}

/// A key with its value, or an example of one behind `#`.
fn entry(key: &str, value: Option<&str>, example: &str) -> String {
    match value {
        Some(value) => format!("{key} = {}", quoted(value)),
        None => format!("# {key} = {}", quoted(example)),
    }
}

/// A text as TOML has it on one line, so that none of it can leave the `#` that the line may stand behind.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            _ if letter.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(letter));
            }
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// The folder's name as an app's: what is not allowed in one becomes `-`.
fn folder_name(folder: &Path) -> String {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let name: String = name.chars().take(64).map(|letter| if allowed(letter) { letter } else { '-' }).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "app".to_owned() } else { name.to_owned() }
}

/// The database of the settings, or the only SQLite file that lies here.
fn database(settings: &Settings, environment: &Environment, notes: &mut Vec<String>) -> Result<Option<String>> {
    if let Some(setting) = &settings.database {
        let text = &setting.value.text;
        if without_passwords(text) != *text {
            notes.push(format!("the database URL from {} holds a password, so it is not written down", setting.origin));
            return Ok(None);
        }
        let location = settings.database_at(text, &setting.value.base)?.location();
        notes.push(format!("database from {}: {location}", setting.origin));
        return Ok(Some(location));
    }
    match databases_here(&environment.folder).as_slice() {
        [only] => {
            let location = settings.database_at(&only.display().to_string(), &environment.folder)?.location();
            notes.push(format!("database found here: {location}"));
            Ok(Some(location))
        }
        [] => Ok(None),
        several => {
            notes.push(format!("{} SQLite files lie here: name one with --database", several.len()));
            Ok(None)
        }
    }
}

fn databases_here(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let named = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| ["sqlite3", "sqlite", "db"].contains(&extension))
    };
    let is_database = |path: &PathBuf| {
        let mut start = [0; MAGIC.len()];
        path.is_file() && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == MAGIC
    };
    let paths = entries.take(MOST_ENTRIES).flatten().map(|entry| entry.path());
    paths.filter(|path| named(path)).filter(is_database).collect()
}

/// The bucket by the variable that Django's S3 storage is usually configured with.
fn bucket_of_django(environment: &Environment, notes: &mut Vec<String>) -> Option<String> {
    let bucket = environment.variable("AWS_STORAGE_BUCKET_NAME")?;
    let address = Address::parse(&format!("s3://{bucket}"), &environment.folder).ok()?;
    notes.push(format!("files from AWS_STORAGE_BUCKET_NAME: {address}"));
    Some(address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_one_line_and_come_back_as_they_were() {
        for name in ["plain", "two\nlines", "a\rb", "say \"so\"", "back\\slash", "'", "\u{7f}\u{85}\0\t", "ü\u{2028}"]
        {
            let line = format!("{} = {}", key(name), quoted(name));
            assert!(!line.contains(char::is_control), "{line:?}");
            let read: toml::Table = line.parse().expect("TOML");
            assert_eq!(read.get(name).and_then(toml::Value::as_str), Some(name), "{line}");
        }
        let like =
            Reference { table: "t\n[[references]]".into(), column: "c".into(), prefix: String::new(), base: None };
        let lines = reference(&like, "a\nb", true);
        assert!(lines.iter().flat_map(|line| line.lines()).all(|line| line.starts_with('#')), "{lines:?}");
    }
}
