//! Scratch prefixes of rehearsals: whose owner is gone goes, and nothing else ever does.

use nexus_core::bucket::{Address, StoreOptions};
use nexus_core::event::Events;
use nexus_core::files::scratch::{Life, Owner, ScratchFiles, sweep};
use nexus_core::local::Scratch;
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
