//! What the people, places and papers of the clinic are called.

use super::random::Random;

pub(super) const FIRST_NAMES: [&str; 32] = [
    "John", "Mary", "Anna", "Jürgen", "Zoë", "Björn", "Fatma", "Élodie", "Łukasz", "Søren", "Maria", "Peter", "Ingrid",
    "Ahmed", "Yūki", "Olga", "Heinz", "Ursula", "Noémie", "José", "Giulia", "Emma", "Paul", "Lena", "Mehmet", "Sofia",
    "Karl", "Irène", "Dmitri", "Aoife", "Thomas", "Renate",
];

pub(super) const LAST_NAMES: [&str; 32] = [
    "Müller",
    "Schmidt",
    "O'Brien",
    "Smith",
    "García",
    "Nguyen",
    "Kowalski",
    "Öztürk",
    "Weiß",
    "Keller",
    "Jansen",
    "van den Berg",
    "Dubois",
    "Rossi",
    "Novák",
    "Ivanova",
    "Tanaka",
    "Haugen",
    "Fischer",
    "Becker",
    "Schäfer",
    "Koch",
    "Bauer",
    "Richter",
    "Klein",
    "Wolf",
    "Schröder",
    "Neumann",
    "Braun",
    "Hofmann",
    "Lange",
    "Krüger",
];

pub(super) const STREETS: [&str; 8] = [
    "Hauptstraße",
    "Bahnhofstraße",
    "Gartenweg",
    "Lindenallee",
    "Am Mühlbach",
    "Kirchplatz",
    "Rue du Lac",
    "Station Road",
];

pub(super) const CITIES: [&str; 8] = ["München", "Köln", "Zürich", "Genève", "Łódź", "Århus", "Galway", "Graz"];

pub(super) const KINDS: [&str; 10] = [
    "Befund",
    "Arztbrief",
    "Laborbericht",
    "Aufklärung",
    "Rechnung",
    "Überweisung",
    "Consent",
    "Referral",
    "Anamnese",
    "OP-Bericht",
];

const SENTENCES: [&str; 24] = [
    "Patient reports intermittent pain in the left knee after exercise.",
    "Blutdruck 128/82, Puls 71, regelmäßig.",
    "No known allergies; penicillin tolerated in 2019.",
    "Kontrolle in sechs Wochen vereinbart.",
    "MRI shows a small tear of the medial meniscus, grade II.",
    "Übergewicht, BMI 31,4; Ernährungsberatung empfohlen.",
    "Prescribed ibuprofen 400 mg, twice daily with food.",
    "Wundheilung unauffällig, Fäden am zehnten Tag entfernt.",
    "The patient was informed about risks and alternatives and consented.",
    "Laborwerte: CRP < 5 mg/l, Leukozyten 6,8 G/l, Hb 13,9 g/dl.",
    "Referred to physiotherapy, six sessions.",
    "Familienanamnese: Diabetes mellitus Typ 2 (Mutter).",
    "X-ray without evidence of fracture.",
    "Sonographie Abdomen: Leber normal groß, keine Raumforderung.",
    "Sleep disturbed; no daytime fatigue.",
    "Impfstatus geprüft: Tetanus aufgefrischt, Influenza abgelehnt.",
    "Vision 1.0 / 0.8, correction advised.",
    "Le patient se plaint de vertiges au lever.",
    "Température 36,8 °C, saturation 98 %.",
    "Follow-up by telephone; condition \"much better\".",
    "EKG: Sinusrhythmus, keine ST-Streckenveränderungen.",
    "Old records imported from FileMaker; scan quality poor.",
    "Dosis auf ½ Tablette reduziert → gut vertragen.",
    "Next appointment confirmed by e-mail.",
];

/// A note of about this many bytes.
pub(super) fn note(random: &mut Random, bytes: u64) -> String {
    let length = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut note = String::with_capacity(length.min(1 << 20) + 128);
    while note.len() < length {
        note.push_str(random.pick(&SENTENCES));
        note.push_str(if random.percent(12) { "\n\n" } else { " " });
    }
    note
}
