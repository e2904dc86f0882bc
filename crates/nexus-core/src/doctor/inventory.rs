//! The inventory that stands for a listing of the files in the estimate.

use super::{DoctorPlan, Line, Step};
use crate::bucket::inventory::Inventory;
use crate::clock::Clock;
use crate::error::Error;
use crate::files::rules::Rules;
use crate::local::Scratch;
use crate::point::Part;

/// Reads it, where one was named, and says how old it is.
pub(super) async fn look(plan: &DoctorPlan, scratch: &Scratch, clock: &Clock) -> (Option<Line>, Option<Inventory>) {
    let Some(at) = &plan.inventory else { return (None, None) };
    let name = "inventory";
    let Some(files) = plan.backup.files.as_ref().filter(|_| plan.backup.parts.contains(&Part::Files)) else {
        return (Some(Line::of_error(name, Error::usage("an inventory was named, and no files are backed up"))), None);
    };
    let read = async {
        let rules = Rules::new(&files.rules)?;
        at.read(&files.source, rules.prefix(), scratch).await
    };
    match read.await {
        Ok(inventory) => {
            let hours = clock.now().duration_since(inventory.made).as_hours();
            let what = format!(
                "{} objects of {} as they were at {}, {hours} hours ago: the estimate is of these; a backup lists what is there then",
                inventory.objects,
                files.address,
                inventory.made.strftime("%Y-%m-%d %H:%M UTC"),
            );
            (Some(Line::passed(name, what)), Some(inventory))
        }
        Err(error) => {
            let mut line = Line::of_error(name, error);
            line.next = vec![Step::Say("name another, or leave --inventory out: the bucket is then listed".to_owned())];
            (Some(line), None)
        }
    }
}
