//! Where a rehearsal's scratch goes, and where the application itself is.

use nexus_core::bucket::Address;
use nexus_core::database::Database;
use nexus_core::error::{Error, Result};
use nexus_core::point::Part;
use nexus_core::rehearse::look::{Absent, FilesPlace, Place};
use nexus_core::rehearse::{Content, FilesGround, RehearseRequest};
use nexus_core::vault::{RecoveryPoint, Vault};

use super::super::restore::targets::own_database;
use crate::cli::RehearseArgs;
use crate::run::Run;

/// The parts that a point must have to be `latest`: a database, and files where the app has them and they are wanted.
pub async fn needs(vault: &Vault, args: &RehearseArgs) -> Result<Vec<Part>> {
    let mut needs = vec![Part::Database];
    if args.point.starts_with("latest") && !args.no_files {
        let points = vault.points().await?;
        if points.iter().filter_map(|point| point.manifest()).any(|manifest| manifest.has(Part::Files)) {
            needs.push(Part::Files);
        }
    }
    Ok(needs)
}

/// The application's own database and files, as the point names them.
pub async fn own(run: &Run, point: &RecoveryPoint) -> Result<Place> {
    let parts = &point.manifest().parts;
    let mut place = Place { database: None, files: None };
    if let Some(part) = &parts.database {
        // Credentials come from whatever setting names that very place.
        let setting = run.settings.database.as_ref().map(|setting| &setting.value);
        let named = setting.and_then(|location| run.settings.database_at(&location.text, &location.base).ok());
        let reached = named.filter(|named| named.location() == part.source);
        place.database = Some(reached.map_or_else(|| own_database(run, part), Ok)?);
    }
    if let Some(part) = &parts.files {
        let address = Address::parse(&part.source, &run.folder)?;
        let reader = run.reader_on(&address, part.endpoint.as_deref()).await?;
        let (lies_at, rules) = (part.rules.prefix.clone(), part.rules.clone());
        place.files = Some(FilesPlace { reader, lies_at, rules, absent: Absent::Unseen });
    }
    Ok(place)
}

/// What is to be restored where.
///
/// # Errors
///
/// [`Error::Usage`] when nothing says where files go, or they would go into the vault or among the application's own.
pub async fn request(
    run: &Run,
    args: &RehearseArgs,
    point: &RecoveryPoint,
    own: Option<&Place>,
) -> Result<RehearseRequest> {
    let named = run.settings.rehearse.server.as_ref().map(|setting| &setting.value);
    let named = named.map(|location| run.settings.database_at(&location.text, &location.base)).transpose()?;
    let server = match named.or_else(|| own.and_then(|own| own.database.clone())) {
        Some(Database::Postgres(server)) => Some(*server),
        _ => None,
    };
    Ok(RehearseRequest { server, files: files(run, args, point).await?, lock_wait: run.settings.lock_wait.duration() })
}

async fn files(run: &Run, args: &RehearseArgs, point: &RecoveryPoint) -> Result<Option<FilesGround>> {
    let part = point.manifest().parts.files.as_ref().filter(|_| !args.no_files);
    let Some(setting) = &run.settings.rehearse.bucket else {
        return without_place(run, args, point).map(|()| None);
    };
    let address = &setting.value;
    let source = point.manifest().parts.files.as_ref().map(|files| Address::parse(&files.source, &run.folder));
    let configured = run.settings.files.as_ref().map(|files| files.value.clone());
    let taken = [
        ("the vault", Some(point.vault().address().clone())),
        ("the application's own files", source.transpose()?),
        ("the application's own files", configured),
    ];
    for (whose, place) in taken.into_iter().filter_map(|(whose, place)| Some((whose, place?))) {
        if place.prefix_of(address).is_some() || address.prefix_of(&place).is_some() {
            return Err(Error::usage_hint(
                format!("[rehearse] bucket {address} overlaps {whose} at {place}"),
                "name a bucket or folder of its own: the command may remove everything in it",
            ));
        }
    }
    let content = if part.is_some() { Content::Copied } else { Content::Empty };
    Ok(Some(FilesGround { reader: run.files_reader(address).await?, address: address.clone(), content }))
}

/// Without a place for files the command works on the application's own, where there are any: nobody but the owner can say
/// that it does not.
fn without_place(run: &Run, args: &RehearseArgs, point: &RecoveryPoint) -> Result<()> {
    let has_files = point.manifest().parts.files.is_some() || run.settings.files.is_some();
    if !has_files || (args.no_files && args.trust_env) {
        return Ok(());
    }
    let bucket = "write [rehearse] bucket = \"s3://another-bucket/prefix\" into nexus.toml";
    if !args.no_files {
        return Err(Error::usage_hint("nothing says where the files of a rehearsal go", bucket));
    }
    Err(Error::usage_hint(
        "without a place for its files the command would work on those of the application itself",
        format!("{bucket}, where it then finds none; or pass --trust-env if it touches no files"),
    ))
}
