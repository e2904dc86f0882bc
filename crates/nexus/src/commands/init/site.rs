//! What a Django site's answer comes to: one database, one place of files, record names, references, and all that is not covered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nexus_core::bucket::Address;
use nexus_core::error::{Error, Result};
use nexus_core::point::references::Reference;

use super::databases::{place, url};
use super::django::{FileField, Model, Site, SiteDatabase, Storage};
use crate::wording::without_passwords;

/// What is to be said of files that are taken and whose rows are not.
const ORPHANED: &str = "; its files will be counted as orphaned";

/// What goes into the configuration.
#[derive(Debug, Default)]
pub(super) struct Derived {
    /// The database's URL or path; none: it could not be told.
    pub(super) database: Option<String>,
    /// The files.
    pub(super) files: Option<String>,
    /// Of a bucket that is not at AWS.
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    /// Record names and their tables.
    pub(super) tables: BTreeMap<String, String>,
    /// Columns that name files.
    pub(super) references: Vec<Suggested>,
    /// What this configuration does not cover, in a person's words.
    pub(super) uncovered: Vec<String>,
    /// What is backed up, but not checked by its references.
    pub(super) unchecked: Vec<String>,
    /// What else is to be said.
    pub(super) notes: Vec<String>,
}

/// A reference, and what is to be said of it.
#[derive(Debug)]
pub(super) struct Suggested {
    pub(super) reference: Reference,
    /// Where it comes from.
    pub(super) comment: String,
    /// True when it goes behind `#`.
    pub(super) off: bool,
}

/// Chooses what one configuration can cover, and names the rest.
///
/// # Errors
///
/// [`Error::Usage`] when there are several databases and none was chosen, or the one that was is not there or of another kind than
/// can be backed up.
pub(super) fn derive(site: &Site, alias: Option<&str>, files: Option<&Address>) -> Result<Derived> {
    let alias = choose(site, alias)?;
    let mut derived = Derived::default();
    derived.database(alias, &site.databases[alias]);
    let (ours, others): (Vec<&Model>, Vec<&Model>) = site.models.iter().partition(|model| model.database == alias);
    for (other, database) in site.databases.iter().filter(|(other, _)| *other != alias) {
        let models: Vec<&str> =
            others.iter().filter(|model| model.database == *other).map(|model| model.name.as_str()).collect();
        let with = if models.is_empty() { String::new() } else { format!(", with the models {}", models.join(", ")) };
        derived.uncovered.push(format!("the database `{other}` ({}){with}", place(database)));
    }
    let names = names(&site.models, &ours);
    derived.tables =
        names.iter().filter(|(table, name)| table != name).map(|(table, name)| (name.clone(), table.clone())).collect();
    let covered = Covered::of(site, &ours, files);
    let used: BTreeSet<&Storage> =
        site.models.iter().flat_map(|model| &model.files).map(|field| &field.storage).collect();
    if let Some(covered) = &covered {
        derived.files(covered, &used);
    }
    let (ours, others) = (Column::all(&ours, covered.as_ref()), Column::all(&others, covered.as_ref()));
    derived.columns(&ours, &others, &names);
    for (alias, storage) in &site.storages {
        let is_covered = covered.as_ref().is_some_and(|covered| covered.prefix(storage).is_some());
        if !is_covered && !used.contains(storage) {
            derived.uncovered.push(format!("the storage `{alias}` ({}), which no file field uses", kept_in(storage)));
        }
    }
    // What a site calls a name or a place may be a URL.
    for what in derived.uncovered.iter_mut().chain(&mut derived.unchecked).chain(&mut derived.notes) {
        *what = without_passwords(what);
    }
    Ok(derived)
}

/// A column that names files.
struct Column<'a> {
    model: &'a Model,
    field: &'a FileField,
    /// What makes a key of a name; none when its files are in another place.
    prefix: Option<String>,
}

impl<'a> Column<'a> {
    fn all(models: &[&'a Model], covered: Option<&Covered>) -> Vec<Self> {
        let mut all = Vec::new();
        for &model in models {
            for field in &model.files {
                all.push(Self { model, field, prefix: covered.and_then(|covered| covered.prefix(&field.storage)) });
            }
        }
        all
    }

    fn name(&self) -> String {
        format!("{} {}.{}", self.field.class, self.model.name, self.field.field)
    }

    /// True when its files are among those below the prefix of a reference.
    fn is_below(&self, prefix: &str) -> bool {
        self.prefix.as_ref().is_some_and(|own| own.starts_with(prefix))
    }
}

impl Derived {
    fn database(&mut self, alias: &str, database: &SiteDatabase) {
        match url(database) {
            Ok(url) => {
                // A file has no options that a URL could hold.
                if url.starts_with("postgres") && !database.options.is_empty() {
                    let options = database.options.join(", ");
                    self.notes.push(format!(
                        "of the database `{alias}` these OPTIONS are not written down, add to its URL what libpq needs: {options}"
                    ));
                }
                self.database = Some(url);
            }
            Err(why) => self.uncovered.push(format!("the database `{alias}`: {why}")),
        }
    }

    fn files(&mut self, covered: &Covered, used: &BTreeSet<&Storage>) {
        self.files = Some(covered.address.clone());
        let Some(storage) = &covered.storage else { return };
        if !used.contains(storage) {
            self.notes.push(format!("no file field uses the storage that is taken as the files: {}", covered.address));
        }
        self.region.clone_from(&storage.region);
        match &storage.endpoint {
            Some(endpoint) if without_passwords(endpoint) != *endpoint => {
                self.notes.push("the endpoint of the storage holds a password, so it is not written down".to_owned());
            }
            endpoint => self.endpoint.clone_from(endpoint),
        }
    }

    /// Columns of the database that is covered, then those of others, whose files may be covered all the same.
    fn columns(&mut self, ours: &[Column<'_>], others: &[Column<'_>], names: &BTreeMap<String, String>) {
        let (on, off): (Vec<&Column<'_>>, Vec<&Column<'_>>) =
            ours.iter().partition(|column| column.model.managed && column.prefix.is_some());
        let orphaned = |column: &Column<'_>| {
            let is_below = |on: &&Column<'_>| on.prefix.as_ref().is_some_and(|prefix| column.is_below(prefix));
            if on.iter().any(is_below) { ORPHANED } else { "" }
        };
        for column in ours {
            let beside = off.iter().copied().chain(others);
            let beside = beside.filter(|other| column.prefix.as_ref().is_some_and(|prefix| other.is_below(prefix)));
            let beside: Vec<String> = beside.map(Column::name).collect();
            let table = names.get(&column.model.table).unwrap_or(&column.model.table);
            self.add(column, table, orphaned(column), &beside);
        }
        for column in others {
            let (name, database) = (column.name(), &column.model.database);
            self.uncovered.push(format!("{name}: its rows are in the database `{database}`{}", orphaned(column)));
        }
    }

    /// Adds a column of the database that is covered; `beside` are those whose files lie below its prefix and are not checked.
    fn add(&mut self, column: &Column<'_>, table: &str, orphaned: &str, beside: &[String]) {
        let Column { model, field, prefix } = column;
        let name = column.name();
        let upload_to = match &field.upload_to {
            Some(upload_to) => format!("upload_to {upload_to:?}"),
            None => "upload_to is computed or empty".to_owned(),
        };
        let comment = match (prefix, model.managed) {
            (None, _) => {
                let why = format!("its files are in another place ({})", kept_in(&field.storage));
                self.uncovered.push(format!("{name}: {why}"));
                format!("NOT COVERED: {name}, {upload_to}: {why}")
            }
            (Some(_), false) => {
                let why = format!("Django does not make its table (managed = False){orphaned}");
                self.unchecked.push(format!("{name}: {why}"));
                format!("NOT CHECKED: {name}, {upload_to}: {why}")
            }
            (Some(_), true) if !beside.is_empty() => {
                let beside = beside.join(", ");
                format!("{name}, {upload_to}; files of {beside} lie there too, and will be counted as orphaned")
            }
            (Some(_), true) => format!("{name}, {upload_to}"),
        };
        let off = prefix.is_none() || !model.managed;
        let reference = Reference {
            table: table.to_owned(),
            column: field.column.clone(),
            prefix: prefix.clone().unwrap_or_default(),
            base: None,
        };
        self.references.push(Suggested { reference, comment: without_passwords(&comment), off });
    }
}

/// The database: the only one, or the one that was asked for.
fn choose<'a>(site: &'a Site, asked: Option<&'a str>) -> Result<&'a str> {
    let all: Vec<&String> = site.databases.keys().collect();
    let listed = || {
        let one = |(alias, database): (&String, &SiteDatabase)| format!("`{alias}` ({})", place(database));
        site.databases.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    match (asked, all.as_slice()) {
        (Some(asked), _) if site.databases.contains_key(asked) => Ok(asked),
        (Some(asked), []) => Err(Error::usage(format!("the site has no database {asked:?}, nor any other"))),
        (Some(asked), _) => {
            Err(Error::usage_hint(format!("the site has no database {asked:?}"), format!("it has {}", listed())))
        }
        (None, [only]) => Ok(only),
        (None, []) => Err(Error::usage("the site has no database: its DATABASES are empty")),
        (None, [first, ..]) => Err(Error::usage_hint(
            format!("the site has several databases, and one configuration covers one: {}", listed()),
            format!(
                "choose with --django-database {}; write the others into configurations of their own, each with an app of its own",
                all.iter().find(|alias| *alias == &"default").unwrap_or(first)
            ),
        )),
    }
}

/// The record name of each table of the site's own models: the model's name, in the plural.
///
/// Where two models come to one name, the app's goes before both; where another table has that name, the table keeps its own.
fn names(all: &[Model], ours: &[&Model]) -> BTreeMap<String, String> {
    let own: Vec<&&Model> = ours
        .iter()
        .filter(|model| model.managed && !model.automatic && !model.package.starts_with("django."))
        .collect();
    let plain = |model: &Model| plural(&snake(&model.name));
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for model in &own {
        let name = plain(model);
        let is_shared = own.iter().any(|other| other.table != model.table && plain(other) == name);
        let name = if is_shared { format!("{}_{name}", model.app) } else { name };
        let is_taken = all.iter().any(|other| other.table == name && other.table != model.table);
        if !is_taken && !names.values().any(|known| *known == name) {
            names.insert(model.table.clone(), name);
        }
    }
    names
}

/// `ImageBatch` as `image_batch`, `HTMLPage` as `html_page`.
fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::with_capacity(name.len() + 4);
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| letters[at]);
        let after = letters.get(at + 1);
        let begins = letter.is_uppercase()
            && before.is_some_and(|before| {
                before != '_' && (!before.is_uppercase() || after.is_some_and(|after| after.is_lowercase()))
            });
        if begins {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

fn plural(name: &str) -> String {
    let vowel = |letter: char| "aeiou".contains(letter);
    if let Some(stem) = name.strip_suffix('y').filter(|stem| !stem.ends_with(vowel)) {
        return format!("{stem}ies");
    }
    let hisses = ["s", "x", "z", "ch", "sh"].iter().any(|ending| name.ends_with(ending));
    format!("{name}{}", if hisses { "es" } else { "s" })
}

/// Where a storage keeps its files, for a person.
fn kept_in(storage: &Storage) -> String {
    match storage {
        Storage { error: Some(error), class, .. } => format!("{class}: {error}"),
        Storage { bucket: Some(bucket), location, .. } => {
            match location.as_deref().map(|text| text.trim_matches('/')) {
                Some(location) if !location.is_empty() => format!("s3://{bucket}/{location}"),
                _ => format!("s3://{bucket}"),
            }
        }
        Storage { folder: Some(folder), .. } => folder.display().to_string(),
        Storage { class, .. } => class.clone(),
    }
}

/// The one place of files that a configuration covers.
struct Covered {
    address: String,
    place: Place,
    /// The storage that it was taken from, unless a flag named it.
    storage: Option<Storage>,
}

enum Place {
    /// Everything below a prefix of a bucket.
    Bucket {
        bucket: String,
        prefix: String,
        endpoint: Option<String>,
    },
    Folder(std::path::PathBuf),
}

impl Covered {
    /// What a flag names, else the default storage, else the one that most file fields use.
    fn of(site: &Site, ours: &[&Model], files: Option<&Address>) -> Option<Self> {
        let used: Vec<&Storage> = ours.iter().flat_map(|model| &model.files).map(|field| &field.storage).collect();
        match files {
            Some(Address::Folder(folder)) => {
                let place = Place::Folder(folder.clone());
                return Some(Self { address: folder.display().to_string(), place, storage: None });
            }
            Some(address @ Address::S3 { bucket, prefix }) => {
                let storage = used.iter().find(|storage| storage.bucket.as_ref() == Some(bucket));
                let endpoint = storage.and_then(|storage| storage.endpoint.clone());
                let place = Place::Bucket { bucket: bucket.clone(), prefix: prefix.clone(), endpoint };
                return Some(Self { address: address.to_string(), place, storage: storage.map(|one| (*one).clone()) });
            }
            None => {}
        }
        let can_be = |storage: &&Storage| storage.bucket.is_some() || storage.folder.is_some();
        let default = site.storages.get("default").filter(|default| used.is_empty() || used.contains(default));
        let often = |storage: &&Storage| used.iter().filter(|one| *one == storage).count();
        let main = default.filter(can_be).or_else(|| used.iter().copied().filter(can_be).max_by_key(often))?;
        if let Some(folder) = &main.folder {
            let place = Place::Folder(folder.clone());
            return Some(Self { address: folder.display().to_string(), place, storage: Some(main.clone()) });
        }
        let bucket = main.bucket.clone()?;
        let is_beside = |storage: &&&Storage| storage.bucket == main.bucket && storage.endpoint == main.endpoint;
        let alone = used.iter().filter(is_beside).all(|storage| location(storage) == location(main));
        let prefix = if alone { location(main) } else { String::new() };
        let address = format!("s3://{bucket}/{prefix}").trim_end_matches('/').to_owned();
        let place = Place::Bucket { bucket, prefix, endpoint: main.endpoint.clone() };
        Some(Self { address, place, storage: Some(main.clone()) })
    }

    /// What makes a key of a name in a storage; none when its files are in another place.
    fn prefix(&self, storage: &Storage) -> Option<String> {
        match &self.place {
            Place::Bucket { bucket, prefix, endpoint } => {
                let is_here = storage.bucket.as_ref() == Some(bucket) && storage.endpoint == *endpoint;
                Some(location(storage)).filter(|location| is_here && location.starts_with(prefix.as_str()))
            }
            Place::Folder(folder) => {
                let inside = below(storage.folder.as_deref()?, folder)?;
                Some(if inside.is_empty() { inside } else { format!("{inside}/") })
            }
        }
    }
}

/// Where a folder lies in another one; the folders may be named through links.
fn below(folder: &Path, outer: &Path) -> Option<String> {
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let (folder, outer) = (resolved(folder), resolved(outer));
    folder.strip_prefix(outer).ok()?.to_str().map(str::to_owned)
}

/// The prefix that a storage puts before names: empty, or with a `/` at its end.
fn location(storage: &Storage) -> String {
    match storage.location.as_deref().unwrap_or_default().trim_matches('/') {
        "" => String::new(),
        location => format!("{location}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_become_plain_names() {
        for (model, name) in [
            ("Patient", "patients"),
            ("ImageBatch", "image_batches"),
            ("Category", "categories"),
            ("Day", "days"),
            ("HTMLPage", "html_pages"),
            ("Address", "addresses"),
            ("X2Ray", "x2_rays"),
            ("old_Box", "old_boxes"),
            ("Větev", "větevs"),
        ] {
            assert_eq!(plural(&snake(model)), name);
        }
    }

    #[test]
    fn names_that_two_models_or_another_table_have_are_told_apart() {
        let model = |app: &str, name: &str, table: &str| Model {
            app: app.into(),
            package: app.into(),
            name: name.into(),
            table: table.into(),
            managed: true,
            automatic: false,
            database: "default".into(),
            files: Vec::new(),
        };
        let all = [
            model("a", "Visit", "a_visit"),
            model("b", "Visit", "b_visit"),
            model("a", "Bed", "a_bed"),
            model("old", "Anything", "beds"),
            Model { package: "django.contrib.auth".into(), ..model("auth", "User", "auth_user") },
        ];
        let ours: Vec<&Model> = all.iter().collect();
        let names: Vec<(String, String)> = names(&all, &ours).into_iter().collect();
        let expected = [("a_visit", "a_visits"), ("b_visit", "b_visits"), ("beds", "anythings")];
        assert_eq!(names, expected.map(|(table, name)| (table.to_owned(), name.to_owned())));
    }
}
