//! The clinic's rows, written in one transaction.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Result, Transaction, params};

use super::ClinicSize;
use super::files::Named;
use super::random::Random;
use super::schema::{INDEXES, MIGRATIONS, MODELS, TABLES};
use super::words::{CITIES, FIRST_NAMES, KINDS, LAST_NAMES, STREETS, note};

/// How many people work at the clinic.
const USERS: u64 = 12;

/// Writes a database with all rows; a file that has these tables already is left as it is.
pub(super) fn write(path: &Path, size: &ClinicSize, named: &Named, random: &mut Random) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut connection = Connection::open_with_flags(path, flags)?;
    // A clinic that breaks off is made anew: nothing is gained by waiting for the disk.
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    django(&transaction, random)?;
    patients(&transaction, size, random)?;
    batches(&transaction, size, random)?;
    images(&transaction, size, &named.images, random)?;
    documents(&transaction, size, &named.documents, random)?;
    transaction.execute_batch(INDEXES)?;
    transaction.commit()?;
    connection.close().map_err(|(_, cause)| cause)
}

fn django(transaction: &Transaction<'_>, random: &mut Random) -> Result<()> {
    let mut migration =
        transaction.prepare("INSERT INTO django_migrations (app, name, applied) VALUES (?1, ?2, ?3)")?;
    for (app, name) in MIGRATIONS {
        migration.execute(params![app, name, random.moment(2023, 2024)])?;
    }
    let mut model = transaction.prepare("INSERT INTO django_content_type (app_label, model) VALUES (?1, ?2)")?;
    for (app, name) in MODELS {
        model.execute(params![app, name])?;
    }
    let mut user = transaction.prepare(
        "INSERT INTO auth_user (password, last_login, is_superuser, username, first_name, last_name, \
         email, is_staff, is_active, date_joined) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?9)",
    )?;
    for id in 1..=USERS {
        user.execute(params![
            format!("pbkdf2_sha256$870000${:016x}${:016x}", random.bits(), random.bits()),
            (id % 5 != 0).then(|| random.moment(2025, 2025)),
            id == 1,
            format!("user{id}"),
            random.pick(&FIRST_NAMES),
            random.pick(&LAST_NAMES),
            format!("user{id}@clinic.example"),
            id % 7 != 0,
            random.moment(2019, 2024),
        ])?;
    }
    let mut session = transaction.prepare("INSERT INTO django_session VALUES (?1, ?2, ?3)")?;
    for _ in 0..3 * USERS {
        let key = format!("{:016x}{:016x}", random.bits(), random.bits());
        let content = format!("{:016x}", random.bits()).repeat(8);
        session.execute(params![key, content, random.moment(2025, 2026)])?;
    }
    Ok(())
}

fn patients(transaction: &Transaction<'_>, size: &ClinicSize, random: &mut Random) -> Result<()> {
    let mut patient = transaction.prepare(
        "INSERT INTO clinic_patient (record_number, first_name, last_name, date_of_birth, email, phone, \
         street, city, insurance_number, balance, weight_kg, is_active, notes, signature, created_at, \
         doctor_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    let length = share(size, 12, size.patients);
    for id in 1..=size.patients {
        // The first patient is always a John, so that the guide's example finds one.
        let first = if id == 1 { "John" } else { random.pick(&FIRST_NAMES) };
        let last = random.pick(&LAST_NAMES);
        patient.execute(params![
            format!("P{id:05}"),
            first,
            last,
            random.date(1930, 2022),
            random.percent(70).then(|| format!("p{id}@mail.example")),
            random.percent(85).then(|| format!("+49 89 {}", 1_000_000 + random.below(8_999_999))),
            format!("{} {}", random.pick(&STREETS), 1 + random.below(140)),
            random.pick(&CITIES),
            random.percent(90).then(|| format!("A{:09}", random.below(1_000_000_000))),
            format!("{}.{:02}", random.below(500), random.below(100)),
            random.percent(60).then(|| tenths(400 + random.below(800))),
            random.percent(95),
            around(random, length),
            random.percent(10).then(|| random.bytes(256)),
            random.moment(2016, 2025),
            random.percent(90).then(|| signed(1 + random.below(USERS))),
        ])?;
    }
    Ok(())
}

fn batches(transaction: &Transaction<'_>, size: &ClinicSize, random: &mut Random) -> Result<()> {
    let mut batch = transaction.prepare(
        "INSERT INTO clinic_imagebatch (name, source, imported_at, settings, patient_id) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for id in 1..=size.batches {
        batch.execute(params![
            format!("batch-{id:04}"),
            if random.percent(80) { "filemaker" } else { "upload" },
            random.moment(2024, 2025),
            random.percent(50).then(|| format!("{{\"dpi\": {}, \"Gerät\": \"Röntgen\"}}", 150 * (1 + random.below(4)))),
            signed(1 + random.below(size.patients)),
        ])?;
    }
    Ok(())
}

fn images(transaction: &Transaction<'_>, size: &ClinicSize, keys: &[String], random: &mut Random) -> Result<()> {
    let mut image = transaction.prepare(
        "INSERT INTO clinic_image (file, caption, width, height, taken_on, thumbnail, batch_id, \
         patient_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let length = usize::try_from(share(size, 10, size.images)).unwrap_or(0);
    for key in keys {
        image.execute(params![
            key,
            random.percent(60).then(|| note(random, 40)),
            signed(600 + random.below(3_400)),
            signed(400 + random.below(2_600)),
            random.percent(80).then(|| random.date(2016, 2025)),
            random.percent(70).then(|| random.bytes(length)),
            signed(1 + random.below(size.batches)),
            signed(1 + random.below(size.patients)),
        ])?;
    }
    Ok(())
}

fn documents(transaction: &Transaction<'_>, size: &ClinicSize, keys: &[String], random: &mut Random) -> Result<()> {
    let mut document = transaction.prepare(
        "INSERT INTO clinic_document (title, kind, file, text, pages, received_at, author_id, patient_id) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let length = share(size, 54, size.documents);
    for key in keys {
        let kind = random.pick(&KINDS);
        document.execute(params![
            format!("{kind} {}", random.pick(&LAST_NAMES)),
            kind.to_lowercase(),
            key,
            around(random, length),
            random.percent(75).then(|| signed(1 + random.below(40))),
            random.moment(2016, 2025),
            random.percent(65).then(|| signed(1 + random.below(USERS))),
            signed(1 + random.below(size.patients)),
        ])?;
    }
    Ok(())
}

/// How many bytes each of `rows` rows gets of this percentage of the whole file.
fn share(size: &ClinicSize, percent: u64, rows: u64) -> u64 {
    size.database_bytes_about * percent / 100 / rows.max(1)
}

/// A note of half to one and a half times this many bytes.
fn around(random: &mut Random, bytes: u64) -> String {
    let length = bytes / 2 + random.below(bytes.max(1));
    note(random, length)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn tenths(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(0)) / 10.0
}
