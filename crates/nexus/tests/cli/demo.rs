use crate::Place;

#[test]
fn the_demo_comes_out_equal_and_leaves_nothing_behind() {
    let mut place = Place::new();
    // Settings of the user's that must not leak in.
    place.set("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1");
    place.set("NEXUS_VAULT", "s3://somebody-elses/vault");
    place.set("DATABASE_URL", "sqlite:////nowhere/at/all.db");
    let told = place.run(&["demo", "--small", "--json"]).ends_with(0).json();
    assert_eq!(told["equal"], true);
    assert!(told["rows"]["total"].as_u64() > Some(200) && told["objects"]["total"].as_u64() > Some(100));
    assert_eq!(std::fs::read_dir(place.path()).expect("the folder").count(), 0);
}

#[test]
fn a_wrong_row_or_object_makes_the_demo_fail() {
    for (planted, what) in [("row", "rows"), ("object", "objects")] {
        let told = Place::new().run(&["demo", "--small", "--json", "--plant", planted]).ends_with(1).json();
        assert_eq!(told["equal"], false);
        let compared = &told[what];
        assert_eq!(compared["total"].as_u64(), compared["equal"].as_u64().map(|equal| equal + 1), "{planted}");
    }
}
