//! Scratch prefixes of rehearsals: whose owner is gone goes, and nothing else ever does.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use nexus_core::bucket::{Address, StoreOptions};
use nexus_core::event::Events;
use nexus_core::files::scratch::{Life, Owner, ScratchFiles, sweep};
use nexus_core::local::Scratch;
use nexus_core::point::{JournalEvent, Part};
use nexus_core::rehearse::{Content, FilesGround, Ground, RehearsePlan, RehearseRequest};
use nexus_sandbox::ServiceOptions;

use crate::world::{World, hasty};

fn owner(machine: &str) -> Owner {
    Owner { machine: machine.into(), boot: "b".into(), process: 7, begun: 9 }
}

/// Below the source of a world on S3, a bucket or folder that belongs to nobody else.
fn base(world: &World) -> Address {
    match &world.source {
        Address::S3 { .. } => Address::S3 { bucket: "staging".into(), prefix: "re/".into() },
        Address::Folder(_) => Address::Folder(world.folder.path().join("staging")),
    }
}

fn worlds() -> [World; 2] {
    let world = World::on_s3(ServiceOptions::default(), hasty(2));
    world.store().create_bucket("staging");
    [World::in_folders(), world]
}

/// Everything below the base, without folders.
async fn keys(world: &World) -> Vec<String> {
    let (address, scratch) = (base(world), scratch(world));
    let reader = world.reader(&address);
    if !reader.is_made() {
        return Vec::new();
    }
    let listed = reader.list(address.prefix(), scratch.path(), &Events::none()).await.expect("a listing");
    let keys = listed.map(|object| object.expect("an object").key[address.prefix().len()..].to_owned());
    keys.filter(|key| !key.ends_with('/')).collect()
}

fn scratch(world: &World) -> Scratch {
    Scratch::create(&world.scratch()).expect("room")
}

async fn claim(world: &World, nonce: &str, of: &Owner) -> ScratchFiles {
    let address = base(world);
    let point = "backup_20251115_064233".parse().expect("an id");
    let now = world.clock().now();
    let claimed = ScratchFiles::claim((&world.reader(&address), &address), (&point, nonce), of, now).await;
    claimed.expect("a prefix of its own")
}

async fn put(world: &World, key: &str, text: &str) {
    let address = base(world);
    let key = format!("{}{key}", address.prefix());
    let writer = world.reader(&address).writer(&key);
    assert!(writer.create(&key, text.to_owned().into(), &StoreOptions::default()).await.expect("room"));
}

fn life(of: &Owner) -> Life {
    match of.machine.as_str() {
        "dead" => Life::Dead,
        "alive" => Life::Lives,
        _ => Life::Elsewhere,
    }
}

async fn swept(world: &World, hours: i64) -> usize {
    let (address, scratch) = (base(world), scratch(world));
    let now = world.clock().now() + jiff::SignedDuration::from_hours(hours);
    let tools = (&scratch, &Events::none());
    sweep((&world.reader(&address), &address), &life, now, tools).await.expect("a look").len()
}

#[tokio::test]
async fn prefixes_of_dead_owners_go_and_those_of_living_ones_stay() {
    for world in worlds() {
        assert_eq!(swept(&world, 0).await, 0);
        for (nonce, machine) in [("aa", "dead"), ("bb", "alive"), ("cc", "another")] {
            claim(&world, nonce, &owner(machine)).await;
            for key in ["x/y/z", "x/a", "b+ c"] {
                put(&world, &format!("backup_20251115_064233-{nonce}/{key}"), "bytes").await;
            }
        }
        assert_eq!(keys(&world).await.len(), 12);
        assert_eq!(swept(&world, 0).await, 1);
        let left = keys(&world).await;
        assert_eq!((left.len(), left.iter().any(|key| key.contains("-aa"))), (8, false), "{left:?}");
        // Whether another machine's lives cannot be seen: a day later it does not count as alive any more.
        assert_eq!(swept(&world, 23).await, 0);
        assert_eq!(swept(&world, 25).await, 1);
        let left = keys(&world).await;
        assert!(left.len() == 4 && left.iter().all(|key| key.contains("-bb")), "{left:?}");
    }
}

#[tokio::test]
async fn a_marker_removes_its_own_prefix_and_what_has_none_is_never_touched() {
    for world in worlds() {
        let claimed = claim(&world, "aa", &owner("dead")).await;
        let marker = ".nexus-rehearsals/backup_20251115_064233-aa.json";
        let address = base(&world);
        let text = world.reader(&address).read(&format!("{}{marker}", address.prefix())).await.expect("a look");
        let text = String::from_utf8(text.expect("a marker").to_vec()).expect("UTF-8");
        let forged = |name: &str| text.replace("backup_20251115_064233-aa", name);
        for key in
            ["backup_20251115_064233-zz/x", "mine/x", "x", "backup_20251115_064233-aaa/x", "backup_20251115_064233-a"]
        {
            put(&world, key, "somebody's").await;
        }
        for (at, text) in [
            ("evil.json", forged("mine")),
            ("mine.json", forged("mine")),
            ("backup_20251115_064233-qq.json", forged("backup_20251115_064233-zz")),
            ("..json", forged(".")),
            ("no.json", "no marker".to_owned()),
        ] {
            put(&world, &format!(".nexus-rehearsals/{at}"), &text).await;
        }
        let before = keys(&world).await;
        assert_eq!(swept(&world, 100).await, 1);
        let mut expected = before.clone();
        expected.retain(|key| key != marker);
        assert_eq!(keys(&world).await, expected);
        // Removed by another run meanwhile: nothing is wrong with that.
        claimed.remove(&scratch(&world)).await.expect("nothing is there");
        assert_eq!(keys(&world).await, expected);
    }
}

/// A command may do anything in its folder, and a kill leaves a file that no listing shows.
#[tokio::test]
async fn a_folder_goes_whole_whatever_a_command_made_of_it() {
    let world = World::in_folders();
    let Address::Folder(base) = base(&world) else { panic!("it is a folder") };
    let precious = world.folder.path().join("precious");
    std::fs::create_dir(&precious).expect("room");
    std::fs::write(precious.join("x"), "x").expect("room");
    let odd = |folder: &Path| {
        std::fs::write(folder.join(OsStr::from_bytes(b"a\xff")), "no UTF-8").expect("room");
        std::fs::create_dir_all(folder.join("a/b")).expect("room");
        std::fs::write(folder.join("a/.nexus-unfinished-1"), "half").expect("room");
        symlink(&precious, folder.join("a/link")).expect("room");
    };
    let file = |folder: &Path| {
        std::fs::remove_dir(folder).expect("an empty one");
        std::fs::write(folder, "no folder").expect("room");
    };
    let link = |folder: &Path| {
        std::fs::remove_dir(folder).expect("an empty one");
        symlink(&precious, folder).expect("room");
    };
    for make in [&odd as &dyn Fn(&Path), &file, &link] {
        claim(&world, "aa", &owner("dead")).await;
        let folder = base.join("backup_20251115_064233-aa");
        std::fs::create_dir(&folder).expect("room");
        make(&folder);
        assert_eq!(swept(&world, 0).await, 1);
        let left: Vec<_> = base.read_dir().expect("a folder").map(|entry| entry.expect("one").file_name()).collect();
        assert_eq!(left, [".nexus-rehearsals"]);
        assert_eq!(keys(&world).await, Vec::<String>::new());
        assert!(precious.join("x").exists(), "what a link leads to was removed");
    }
    let claimed = claim(&world, "bb", &owner("alive")).await;
    std::fs::remove_dir_all(&base).expect("it was there");
    claimed.remove(&scratch(&world)).await.expect("nothing is there");
    assert!(!base.exists());
}

#[tokio::test]
async fn a_point_whose_files_have_expired_is_rehearsed_on_without_them() {
    let world = World::in_folders();
    let point = world.backup().await.expect("a backup").point;
    let gone = JournalEvent::Expired { parts: vec![Part::Files] };
    point.journal().add(gone, &world.clock()).await.expect("an entry");
    let point = world.point(&point.id().to_string()).await.expect("a point");
    let address = base(&world);
    let copied = FilesGround { reader: world.reader(&address), address, content: Content::Copied };
    let plan = async |files| {
        let request = RehearseRequest { server: None, files, lock_wait: Duration::from_secs(2) };
        RehearsePlan::make(point.clone(), request).await
    };
    let error = plan(Some(copied)).await.expect_err("they are gone");
    assert!(error.to_string().contains("the files of"), "{error}");
    let (scratch, tools) = (scratch(&world), (&world.clock(), &Events::none()));
    let mut ground = Ground::new(plan(None).await.expect("a plan"));
    ground.make(&owner("alive"), &scratch, tools).await.expect("the database");
    assert!(ground.database().is_some() && ground.files().is_none());
    assert_eq!(ground.clear(&scratch, tools).await, Vec::<String>::new());
}
