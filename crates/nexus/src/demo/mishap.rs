//! What happens to the clinic: a day of work, and then an import that fails half-way and damages the database file.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

use nexus_core::error::Result;
use nexus_sandbox::NewObject;
use rusqlite::Connection;

use super::world::{FILES, World, failed};
use crate::wording::{count, counted};

/// Objects that a day of work adds.
const NEW_OBJECTS: u64 = 12;
/// Every so many objects one is lost, and another overwritten.
const LOST: usize = 5;
const OVERWRITTEN: usize = 7;
/// Objects that the import leaves behind.
const JUNK: u64 = 300;

/// A few new rows, a few new and changed objects.
pub fn a_day_of_work(world: &World) -> Result<String> {
    let connection = open(world)?;
    let changed = connection
        .execute("UPDATE clinic_patient SET phone = '+41 44 000 00 00' WHERE id % 200 = 1", [])
        .map_err(failed("cannot change the clinic's rows"))?;
    let store = world.store();
    for number in 0..NEW_OBJECTS {
        let key = format!("documents/today/visit-{number:04}.pdf");
        let object = NewObject::new(format!("%PDF-1.4 visit {number}")).content_type("application/pdf");
        store.put(FILES, &key, object).map_err(failed("cannot add objects"))?;
    }
    Ok(format!("{} changed, {} added", counted(changed as u64, "row"), counted(NEW_OBJECTS, "object")))
}

/// Tables dropped and changed, objects lost, overwritten and added, and the database file itself damaged.
pub fn failed_import(world: &World) -> Result<String> {
    let connection = open(world)?;
    connection
        .execute_batch(
            "PRAGMA foreign_keys = OFF;
             DROP TABLE clinic_document;
             DELETE FROM clinic_image WHERE id % 3 = 0;
             UPDATE clinic_patient SET first_name = upper(last_name), last_name = NULL WHERE 0;
             UPDATE clinic_patient SET first_name = '???', notes = '' WHERE id % 2 = 0;
             CREATE TABLE import_staging (id INTEGER PRIMARY KEY, raw TEXT);
             INSERT INTO import_staging (raw) SELECT record_number FROM clinic_patient;",
        )
        .map_err(failed("cannot wreck the clinic's rows"))?;
    drop(connection);
    let (lost, overwritten) = wreck_objects(world)?;
    damage_file(world)?;
    Ok(format!(
        "a table dropped, two changed, {} lost, {} overwritten, {} of junk added, the database file damaged",
        counted(lost, "object"),
        count(overwritten),
        count(JUNK)
    ))
}

fn wreck_objects(world: &World) -> Result<(u64, u64)> {
    let store = world.store();
    let (mut lost, mut overwritten) = (0, 0);
    for (at, key) in store.keys(FILES, "").into_iter().enumerate() {
        if at % LOST == 0 {
            store.delete(FILES, &key);
            lost += 1;
        } else if at % OVERWRITTEN == 0 {
            store.put(FILES, &key, "overwritten by a failed import").map_err(failed("cannot overwrite objects"))?;
            overwritten += 1;
        }
    }
    for number in 0..JUNK {
        store
            .put(FILES, &format!("documents/import-junk/{number:05}.tmp"), "junk")
            .map_err(failed("cannot add junk"))?;
    }
    Ok((lost, overwritten))
}

/// Overwrites the first page and some of the middle, as a failing disk or a careless copy does.
fn damage_file(world: &World) -> Result<()> {
    let damage = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(world.database())?;
        let length = file.metadata()?.len();
        file.write_all(&[0xA5; 4 * 1024])?;
        file.seek(SeekFrom::Start(length / 3))?;
        file.write_all(&vec![0xA5; 64 * 1024])
    };
    damage().map_err(failed("cannot damage the database file"))
}

/// What to put wrong after the restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// One value of one row.
    Row,
    /// One byte of one object.
    Object,
}

/// Puts one thing wrong, so that the comparison must fail.
pub fn plant(world: &World, planted: Planted) -> Result<()> {
    match planted {
        Planted::Row => {
            let statement =
                "UPDATE clinic_patient SET notes = notes || ' ' WHERE id = (SELECT max(id) FROM clinic_patient)";
            open(world)?.execute(statement, []).map_err(failed("cannot plant a wrong row"))?;
        }
        Planted::Object => {
            let store = world.store();
            if let Some(key) = store.keys(FILES, "documents/").pop()
                && let Some(object) = store.get(FILES, &key)
            {
                let mut body = object.body.to_vec();
                if let Some(last) = body.last_mut() {
                    *last ^= 1;
                }
                let wrong = NewObject { body: body.into(), fields: object.fields.clone(), ..NewObject::default() };
                store.put(FILES, &key, wrong).map_err(failed("cannot plant a wrong object"))?;
            }
        }
    }
    Ok(())
}

fn open(world: &World) -> Result<Connection> {
    Connection::open(world.database()).map_err(failed("cannot open the clinic's database"))
}
