//! What help says behind the flags: examples, exit statuses, and what a person should know first.

pub(super) const ABOUT: &str =
    "One verified, restorable recovery point of an application before anything destructive happens to it.";

pub(super) const LONG_ABOUT: &str = "\
One verified, restorable recovery point of an application before anything destructive happens to it: \
its database (SQLite or PostgreSQL), its files (an S3 bucket or a folder) and its records (every row as JSON), \
taken at one instant, proven restorable, kept in a vault (an S3 bucket with a prefix, or a folder).";

pub(super) const AFTER: &str = "\
Exit status:
  0    done
  1    done, and the answer is bad: damage was found, or a backup could not be proven
  2    not done: usage, configuration, something missing or unreachable
  130  interrupted
  guard: the command's own (128 and the signal for one that was killed); 1 when a --check found something; \
125 when the command was not run; 126 when it cannot be run, 127 when it is not found

Settings come from flags, then NEXUS_* variables, then the configuration file (`nexus.toml` here, or --config), \
then DATABASE_URL, AWS_* variables and profiles. Data goes to stdout, everything else to stderr.

Start with `nexus demo`, or with `nexus init` in your application's folder.";

pub(super) const DEMO_AFTER: &str = "\
Examples:
  nexus demo                the whole story, in a temporary folder, under two minutes
  nexus demo --keep         leave the service running, with commands to try
  nexus demo --json | jq .steps

Nothing of yours is read or written: the demo brings its own S3 service, credentials and data.";

pub(super) const INIT_AFTER: &str = "\
Examples:
  nexus init                                        from DATABASE_URL and the AWS settings found
  nexus init --files s3://clinic-documents --vault s3://clinic-backup/nexus
  nexus init --django manage.py --vault s3://clinic-backup/nexus
                                                    databases, storages, record names and references of a Django site
  nexus init --look --database db.sqlite3 --files media
                                                    which columns look as if they named files
  nexus init --dry-run                              show it, write nothing

--django runs a script that reads settings and models with the site's own Python: it opens no connection, writes nothing and \
reads no password. What one configuration does not cover (other databases, other storages) is named there and here.";

pub(super) const DOCTOR_AFTER: &str = "\
Examples:
  nexus doctor                                      everything that nexus.toml names
  nexus doctor --json | jq -r '.lines[] | select(.standing == \"failed\") | .next[].run // empty'
  nexus doctor --prices our-provider.toml           another table of prices
  nexus doctor --dry-run                            without trying what the role may do
  nexus doctor --inventory s3://inventories/clinic/daily/2026-01-31T01-00Z/manifest.json

It writes small objects into the vault, one of them a copy of a small file, to try what the role may do and what the \
service keeps, and removes them again; where it may not remove, it writes none. The files' bucket is only read: an upload into it is begun and given up.

Exit status: 0 fit, warnings included; 1 a line failed; 2 could not look.";

pub(super) const BACKUP_AFTER: &str = "\
Examples:
  nexus backup                                      all parts, as nexus.toml says
  nexus backup --label reimport                     a name for the occasion
  nexus backup --only database,records
  nexus backup --strict=dangling                    exit status 1 when a row names a file that is not there
  nexus backup --copies full                        a point that `aws s3 cp --recursive` brings back
  nexus backup --app clinic --database db.sqlite3 --files s3://clinic-documents --vault s3://clinic-backup/nexus

Exit status: 0 committed and verified; 1 committed, but the proof failed, or --strict and rows and files do not fit; \
2 no new point.";

pub(super) const LIST_AFTER: &str = "\
Examples:
  nexus list
  nexus list --all                                  abandoned claims too, and what else lies in the vault
  nexus list --json | jq -r '.points[] | select(.state == \"proven\") | .id'

States: proven (verified at default depth or deeper), unproven, failed (the last check found damage), \
unfinished (not committed: a backup is running, or broke off), unreadable.

Exit status: 0 listed; 1 listed, but a point is unreadable; 2 could not look.";

pub(super) const POINT_HELP: &str = "`latest`, `latest:<label>`, a point's id, or an unambiguous beginning of one";

pub(super) const SHOW_AFTER: &str = "\
Examples:
  nexus show
  nexus show latest:reimport
  nexus show --runbook >runbook.md                  a page to print: where it lies, how it comes back
  nexus show reimport_20251115_064233 --json | jq .manifest.parts.files.categories";

pub(super) const VERIFY_AFTER: &str = "\
Examples:
  nexus verify                                      the latest point, at default depth
  nexus verify --quick reimport                     one listing against the manifest
  nexus verify --full latest                        every byte of every file
  nexus verify --only database,records
  nexus verify --references                         each row without its file, each file without a row
  nexus verify --references --json | jq -r '.references.findings[] | select(.kind == \"dangling\") | .key'

Depths: --quick shows that everything is there with its size; the default also reads and hashes database and \
records and compares every file's checksum or ETag; --full also reads every file. Only the default and --full \
prove a point. Record files of this machine are hashed too, where they are here.

Exit status: 0 verified; 1 damage found, each finding named, or --strict and rows and files do not fit; 2 could not look.";

pub(super) const DRILL_AFTER: &str = "\
Examples:
  nexus drill                                       the latest point; 100 files by chance are read back
  nexus drill reimport --files all                  every file: only this counts as deep as a drill goes
  nexus drill --only database,records
  nexus drill --database postgres://ops@db-test/postgres    a PostgreSQL point on another server
  nexus drill --dry-run                             what would be fetched, how much, and where it would go

The database is really restored, into a scratch file or as a new database `nexus_drill_<point>` on a server, then counted, \
checked, exported anew and compared with the point's records; every record is parsed; files are read from where their \
copies lie and hashed, all others are compared by listing. What was made is removed again. The app's own database and \
files are not touched. A sample of the files proves the point at default depth, no deeper.

Exit status: 0 verified; 1 failed: damage was found; 2 could not verify.";

pub(super) const RESTORE_AFTER: &str = "\
Examples:
  nexus restore latest --dry-run                    what would be done
  nexus restore reimport_20251115_064233            everything, to where it came from
  nexus restore latest --delete-extra               exactly the state then: files that came later go
  nexus restore latest --category images            only files, only these
  nexus restore latest --key 'documents/2024/**'
  nexus restore latest --only database --to-database /tmp/then.sqlite3
  nexus restore latest --table patients             the rows of one table, from its records
  nexus restore latest --only records --mode add-missing --keep-present
  nexus restore latest --record patients/42 --with-children --with-files --dry-run
  nexus restore latest --record patients/42 --to-json -
  nexus restore latest --to-files s3://staging-media --to-database staging.sqlite3

The vault is all it needs: --vault is enough on a machine without nexus.toml. Before anything is changed, a \
safety point of the present state is taken, labelled `before-restore`. On a terminal the point's id is asked \
for; elsewhere --yes is needed. A restore that was interrupted is run again with the same command.

With --record nothing but the rows and files of the plan is touched, and the app is not stopped. What stands in the way is named \
and nothing is written: a row or file that is there with other values (--overwrite replaces it, after a safety point), a row that it \
points at and that is not there (another --record), a column that is not there any more. What only the database knows, such as \
a value that must be unique, is tried in a transaction that is undone.

Exit status: 0 restored and compared; 1 restored, but the comparison differs, or records were not added because \
other values are there, or a --dry-run of records found something in the way; 2 not restored.";

pub(super) const DIFF_AFTER: &str = "\
Examples:
  nexus diff latest now                             what happened since the last point
  nexus diff reimport_20251115_064233 latest        what the re-import did
  nexus diff latest now --rows --table patients     each row of one table, column by column
  nexus diff latest now --only files
  nexus diff reimport now --rows --json | jq -c '.rows[] | select(.change == \"removed\")'

Rows are compared through the points' records, by primary key; by SQLite's rowid where a table has none, which VACUUM may \
give anew, else by the whole row. Only tables whose records differ are read; of the database as it is now all tables are. Columns that came or went are told of once, not as a change of every row. Files are \
compared by size and ETag or checksum, in folders by size and time. With --json the answer is one document; with --rows its last \
fields are rows and keys, one row or file a line.

Exit status: 0 compared, whatever differs: differences are the answer, not a failure; 1 a point is damaged; 2 not compared: a point \
has no records, or not any more, and the like.";

pub(super) const ADOPT_AFTER: &str = "\
Examples:
  nexus adopt --dry-run                             what would become which point, and what is left alone
  nexus adopt --timezone Europe/Vienna --local backups
  nexus verify adopted_20251115_063849              an adopted point is unproven until it was looked at

Looks for `database/<name>_sqlite_backup_<time>.db`, or `…_postgres_backup_<time>.dump` where the database is PostgreSQL, and folders \
`<label>_<time>/images/…` in the vault's place, pairs those that are nearest, up to 30 minutes apart, and writes a claim, a listing and a manifest beside them. Nothing is copied, changed or removed. \
What cannot be read to its end is unfinished, and left alone. Folders of records below \
`--local` become parts of the nearest runs, and stay on this machine.

Exit status: 0 done, or nothing to do; 2 not done.";

pub(super) const COPY_AFTER: &str = "\
Examples:
  nexus copy --to-vault s3://offsite/clinic --to-profile offsite
  nexus copy reimport_20251115_064233 --to-vault /mnt/disk/clinic
  nexus copy --to-vault s3://offsite/clinic --to-endpoint https://s3.example.com --to-profile offsite --dry-run

The copy bears the point's id and instant, holds every file by itself whatever the point reused, and is proven where it lies: \
`--vault` with its place is all that restores it. Between two services, or two profiles, everything goes through this machine, checked by \
both. What a copy that broke off has stored is used by the next one of the same point. The point is looked at first: a damaged one is not copied.

Exit status: 0 copied and proven, or there already and proven; 1 copied, and found damaged there; 2 not copied.";

pub(super) const PRUNE_AFTER: &str = "\
Examples:
  nexus prune --dry-run                             each decision with its reason, and what would be freed
  nexus prune                                       shows them, asks, removes
  nexus prune --yes                                 for a timer
  nexus prune --keep-last 7 --keep-monthly 12
  nexus prune --dry-run --json | jq -c '.decisions[] | select(.keep | not)'

Each part of a point has its own time. Beyond that the newest proven points of each label stay, and points that are \
pinned or in use. Nothing of a label and part goes while none of them is proven. A copy of a file goes when no point \
that stays names it. What is not ours is named and never touched. Backups, restores and other prunes may run meanwhile.

Exit status: 0 done, or nothing to do; 2 nothing more was removed: something cannot be read, or the rest could not be done.";

pub(super) const PIN_AFTER: &str = "\
Examples:
  nexus pin reimport_20251115_064233 --reason 'before the re-import of November'
  nexus unpin reimport_20251115_064233

A pinned point keeps all its parts, whatever their time, until it is unpinned.

Exit status: 0 done; 2 not done: it is not there, or it is being pruned.";

pub(super) const REHEARSE_AFTER: &str = "\
Examples:
  nexus rehearse -- python manage.py migrate
  nexus rehearse --point latest:reimport -- ./reimport.sh --all
  nexus rehearse --no-files --json -- psql -f cleanup.sql | jq .changes.tables
  nexus rehearse --dry-run -- true                  what would be restored where

The point is restored into scratch: SQLite into a private file, PostgreSQL into a new database nexus_rehearse_<point>, \
files below [rehearse] bucket. COMMAND then runs here with DATABASE_URL, NEXUS_REHEARSAL=1 and the variables of \
[rehearse.environment] set. Its standard output goes to standard error: standard output is for what it changed. \
Scratch is removed afterwards; what a rehearsal that was killed left, the next one removes.

An application that takes its database from its own settings would work on the real one. So [rehearse] probe names a \
command that must print the scratch database, and the scratch bucket and prefix, before COMMAND runs. The application \
itself is looked at before and after, and a change is told, though on a live one it may come from elsewhere.

Exit status: 0 COMMAND succeeded; 1 it failed, or with --exclusive the application changed meanwhile, or scratch could \
not be removed, or the point is damaged and COMMAND was not run; 2 COMMAND was not run, or what it changed could not be seen.";

pub(super) const GUARD_AFTER: &str = "\
Examples:
  nexus guard -- ./manage.py migrate
  nexus guard --label reimport -- ./reimport.sh --all
  nexus guard --restore-on-failure --end-sessions -- ./reimport.sh
  nexus guard --check 'SELECT id FROM visit WHERE patient IS NULL' -- ./reimport.sh
  nexus guard -- sh -c 'python -m imports.run && python -m imports.check'
  nexus guard --dry-run -- ./reimport.sh            what would be taken; nothing is run

All parts are backed up and verified first. Only if that point is proven, the command is run: once, with this \
terminal, and with NEXUS_POINT, the point's id, in its environment. stdin and stdout are the command's; all that \
nexus says goes to stderr, so there is no --json: --report FILE writes what became of it as JSON. SIGTERM, SIGHUP and \
a SIGINT that does not come from the terminal are passed on to the command, which is killed if it is still there 4 \
seconds later; afterwards nothing is checked or restored.

Exit status: the command's own; 128 and the signal for one that was killed; 1 when it ended well and a --check found \
something or could not be made. 125: the command was not run, whatever the reason; 126: it cannot be run; 127: it is \
not found.";

pub(super) const GET_AFTER: &str = "\
Examples:
  nexus get documents/2024/report.pdf -o report.pdf
  nexus get images/a.jpg --point latest:reimport >a.jpg
  nexus get --table patients --pk 42
  nexus get --table patients --pk 42 --json | jq .record
  nexus get --table visits --pk patient=42,day=2025-11-15 --point reimport_20251115_064233

A file is given only once its bytes were held against what the point knows of them; an existing file is not overwritten. \
A record is read by a few range requests where its table is large, or where it lies on this machine.

Exit status: 0 it is there; 1 there is no record with this key, or the point is damaged; 2 not done: no such file, table or column, \
or the vault cannot be read.";

pub(super) const FIND_AFTER: &str = "\
Examples:
  nexus find patients last_name=Smith
  nexus find patients 'last_name~^Mac' 'born<1950-01-01' --point latest:reimport
  nexus find documents 'file is null' --count
  nexus find documents,images patient=42 --json | jq '.points[].tables[]'
  nexus find patients email=john@example.com --all  in which points, and how it was there

Numbers are compared as numbers, text by its bytes, so dates as ISO writes them come in their order; `~` is a regular \
expression that may match anywhere; a blob is x'00ff'; NULL fits `is null` alone. Quote what a shell takes for itself: < > | * ~. \
Without --json each record is a line of JSON, behind its point and table when there are several. docs/lookup.md has the rules.

Exit status: 0 searched, whatever was found; 1 records are damaged; 2 not done.";

pub(super) const HISTORY_AFTER: &str = "\
Examples:
  nexus history patients 42
  nexus history patients 42 --json | jq '.states[] | [.first.point, .changes[].column]'
  nexus history visits patient=42,day=2025-11-15
  nexus history documents 7 --files                 with the size and ETag of the file that it names, then and now

Every point that has records is looked at, safety points included. A state is told once for all points in a row that show it.

Exit status: 0 it was found in some point; 1 no point has it, or a point is damaged; 2 not done.";

pub(super) const COMPLETIONS_AFTER: &str = "\
Examples:
  nexus completions bash > ~/.local/share/bash-completion/completions/nexus
  nexus completions zsh  > \"${fpath[1]}/_nexus\"
  nexus completions fish > ~/.config/fish/completions/nexus.fish";

pub(super) const MAN_AFTER: &str = "\
Examples:
  nexus man | man -l -
  nexus man --output ~/.local/share/man/man1        nexus.1, nexus-backup.1, …";
