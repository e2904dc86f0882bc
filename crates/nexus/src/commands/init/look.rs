//! Columns that look as if they named files: every row is read and every file listed, with the configuration that was found.

use nexus_core::error::{Error, Result};
use nexus_core::point::PointId;
use nexus_core::records::export::Export;
use nexus_core::records::now::export_now;
use nexus_core::references::{self, Likely};

use crate::cli::{SourceArgs, VaultArgs};
use crate::run::Run;
use crate::settings::{Environment, Settings};
use crate::terminal::Terminal;

/// Looks, reading only: at what `source` names, as the configuration does, before what variables name.
///
/// # Errors
///
/// [`Error::Usage`] without a database or files to look at; what reading the rows or listing the files fails with.
pub(super) async fn look(
    config: &str,
    source: &SourceArgs,
    environment: &Environment,
    terminal: &Terminal,
) -> Result<Vec<Likely>> {
    let folder = tempfile::tempdir_in(environment.temporary());
    let folder = folder.map_err(|cause| Error::local("cannot make a temporary folder", cause))?;
    let path = folder.path().join(crate::settings::CONFIG_NAME);
    nexus_core::local::write_durably(&path, config.as_bytes())?;
    let vault = VaultArgs { config: Some(path), ..VaultArgs::default() };
    let settings = Settings::load(environment, &vault, source)?;
    let run = Run::prepare("init", settings, environment, terminal)?;
    let (Some(database), Some(files)) = (&run.settings.database, &run.settings.files) else {
        return Err(Error::usage_hint(
            "--look needs a database and files to look at",
            "name them with --database and --files, or --django",
        ));
    };
    let database = run.settings.database_at(&database.value.text, &database.value.base)?;
    let reader = run.files_reader(&files.value).await?;
    reader.check().await?;
    let rows = run.scratch.file("rows");
    let export = Export {
        folder: rows.clone(),
        names: run.settings.tables.clone(),
        app: "init".to_owned(),
        point: PointId::new("look".parse()?, run.clock.now()),
        instant: run.clock.now(),
    };
    let wait = run.settings.lock_wait.duration();
    let exported = export_now(&database, export, wait, &run.scratch, (&run.clock, &run.events)).await?;
    let prefix = files.value.prefix();
    let listed = reader.list(prefix, run.scratch.path(), &run.events).await?;
    references::likely(&exported.tables, &rows, (listed, prefix), &run.scratch).await
}
