//! The tables, as Django's migrations leave them in `SQLite`.

/// Tables, before there are rows.
pub(super) const TABLES: &str = r#"
CREATE TABLE "django_migrations" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "app" varchar(255) NOT NULL, "name" varchar(255) NOT NULL, "applied" datetime NOT NULL);
CREATE TABLE "django_content_type" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "app_label" varchar(100) NOT NULL, "model" varchar(100) NOT NULL);
CREATE TABLE "django_session" ("session_key" varchar(40) NOT NULL PRIMARY KEY, "session_data" text NOT NULL, "expire_date" datetime NOT NULL);
CREATE TABLE "auth_user" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "password" varchar(128) NOT NULL, "last_login" datetime NULL, "is_superuser" bool NOT NULL, "username" varchar(150) NOT NULL UNIQUE, "first_name" varchar(150) NOT NULL, "last_name" varchar(150) NOT NULL, "email" varchar(254) NOT NULL, "is_staff" bool NOT NULL, "is_active" bool NOT NULL, "date_joined" datetime NOT NULL);
CREATE TABLE "clinic_patient" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "record_number" varchar(20) NOT NULL UNIQUE, "first_name" varchar(100) NOT NULL, "last_name" varchar(100) NOT NULL, "date_of_birth" date NOT NULL, "email" varchar(254) NULL, "phone" varchar(40) NULL, "street" varchar(200) NOT NULL, "city" varchar(100) NOT NULL, "insurance_number" varchar(40) NULL, "balance" decimal NOT NULL, "weight_kg" real NULL, "is_active" bool NOT NULL, "notes" text NOT NULL, "signature" BLOB NULL, "created_at" datetime NOT NULL, "doctor_id" integer NULL REFERENCES "auth_user" ("id") DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE "clinic_imagebatch" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "name" varchar(200) NOT NULL, "source" varchar(50) NOT NULL, "imported_at" datetime NOT NULL, "settings" text NULL CHECK ((JSON_VALID("settings") OR "settings" IS NULL)), "patient_id" integer NOT NULL REFERENCES "clinic_patient" ("id") DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE "clinic_image" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "file" varchar(500) NOT NULL, "caption" varchar(300) NULL, "width" integer unsigned NOT NULL CHECK ("width" >= 0), "height" integer unsigned NOT NULL CHECK ("height" >= 0), "taken_on" date NULL, "thumbnail" BLOB NULL, "batch_id" integer NOT NULL REFERENCES "clinic_imagebatch" ("id") DEFERRABLE INITIALLY DEFERRED, "patient_id" integer NOT NULL REFERENCES "clinic_patient" ("id") DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE "clinic_document" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "title" varchar(300) NOT NULL, "kind" varchar(50) NOT NULL, "file" varchar(500) NOT NULL, "text" text NOT NULL, "pages" integer NULL, "received_at" datetime NOT NULL, "author_id" integer NULL REFERENCES "auth_user" ("id") DEFERRABLE INITIALLY DEFERRED, "patient_id" integer NOT NULL REFERENCES "clinic_patient" ("id") DEFERRABLE INITIALLY DEFERRED);
"#;

/// Indexes, after the rows: it is faster so.
pub(super) const INDEXES: &str = r#"
CREATE UNIQUE INDEX "django_content_type_app_label_model_uniq" ON "django_content_type" ("app_label", "model");
CREATE INDEX "django_session_expire_date_idx" ON "django_session" ("expire_date");
CREATE INDEX "clinic_patient_last_name_idx" ON "clinic_patient" ("last_name", "first_name");
CREATE INDEX "clinic_patient_doctor_id_idx" ON "clinic_patient" ("doctor_id");
CREATE INDEX "clinic_imagebatch_patient_id_idx" ON "clinic_imagebatch" ("patient_id");
CREATE INDEX "clinic_image_batch_id_idx" ON "clinic_image" ("batch_id");
CREATE INDEX "clinic_image_patient_id_idx" ON "clinic_image" ("patient_id");
CREATE INDEX "clinic_image_file_idx" ON "clinic_image" ("file");
CREATE INDEX "clinic_document_file_idx" ON "clinic_document" ("file");
CREATE INDEX "clinic_document_patient_id_idx" ON "clinic_document" ("patient_id");
CREATE INDEX "clinic_document_author_id_idx" ON "clinic_document" ("author_id");
"#;

/// The migrations that were applied.
pub(super) const MIGRATIONS: [(&str, &str); 10] = [
    ("contenttypes", "0001_initial"),
    ("auth", "0001_initial"),
    ("auth", "0012_alter_user_first_name_max_length"),
    ("sessions", "0001_initial"),
    ("clinic", "0001_initial"),
    ("clinic", "0002_imagebatch"),
    ("clinic", "0003_document_text"),
    ("clinic", "0004_patient_signature"),
    ("clinic", "0005_filemaker_import"),
    ("clinic", "0006_indexes"),
];

/// The models that there are.
pub(super) const MODELS: [(&str, &str); 7] = [
    ("auth", "user"),
    ("contenttypes", "contenttype"),
    ("sessions", "session"),
    ("clinic", "patient"),
    ("clinic", "imagebatch"),
    ("clinic", "image"),
    ("clinic", "document"),
];
