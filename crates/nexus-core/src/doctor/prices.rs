//! What a service asks for requests and bytes: one table with its date.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Prices in one currency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Prices {
    /// Whose they are, and where.
    pub of: String,
    /// When they were looked up.
    pub date: String,
    /// The currency's sign or letters.
    pub currency: String,
    /// Storage classes.
    pub storage: BTreeMap<String, Storage>,
    /// A gigabyte (10^9 bytes) that leaves the service.
    pub out_gigabyte: f64,
}

/// Prices of one storage class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Storage {
    /// A gigabyte for a month.
    pub gigabyte_month: f64,
    /// A thousand puts, copies, posts or lists.
    pub thousand_puts: f64,
    /// A thousand gets and all other requests.
    pub thousand_gets: f64,
    /// A gigabyte that is read.
    #[serde(default)]
    pub read_gigabyte: f64,
    /// Days that are paid for at least.
    #[serde(default)]
    pub least_days: u64,
    /// Bytes of an object that are paid for at least.
    #[serde(default)]
    pub least_bytes: u64,
}

impl Default for Prices {
    /// List prices of Amazon S3 in us-east-1 (<https://aws.amazon.com/s3/pricing/>), first tier, without taxes.
    fn default() -> Self {
        let class = |gigabyte_month, thousand_puts, thousand_gets, read_gigabyte| Storage {
            gigabyte_month,
            thousand_puts,
            thousand_gets,
            read_gigabyte,
            least_days: 30,
            least_bytes: 128 * 1024,
        };
        let standard = Storage { least_days: 0, least_bytes: 0, ..class(0.023, 0.005, 0.0004, 0.0) };
        let storage = [
            ("STANDARD", standard),
            ("STANDARD_IA", class(0.0125, 0.01, 0.001, 0.01)),
            ("ONEZONE_IA", class(0.01, 0.01, 0.001, 0.01)),
            ("GLACIER_IR", Storage { least_days: 90, ..class(0.004, 0.02, 0.01, 0.03) }),
        ];
        Self {
            of: "Amazon S3, us-east-1".to_owned(),
            date: "2025-01".to_owned(),
            currency: "USD".to_owned(),
            storage: storage.into_iter().map(|(name, prices)| (name.to_owned(), prices)).collect(),
            out_gigabyte: 0.09,
        }
    }
}

impl Prices {
    /// The prices of a class; of one that the table does not have, those of `STANDARD`.
    pub fn class(&self, name: &str) -> Option<&Storage> {
        self.storage.get(name).or_else(|| self.storage.get("STANDARD"))
    }
}
