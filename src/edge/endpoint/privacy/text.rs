//! What the page says, in each of its languages.

/// A language of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Swedish,
    English,
}

impl Language {
    pub(super) const ALL: [Language; 2] = [Language::Swedish, Language::English];

    /// Returns the tag of BCP 47.
    pub(super) fn code(self) -> &'static str {
        match self {
            Language::Swedish => "sv",
            Language::English => "en",
        }
    }

    /// Returns the language's own name for itself.
    pub(super) fn name(self) -> &'static str {
        match self {
            Language::Swedish => "Svenska",
            Language::English => "English",
        }
    }

    pub(super) fn text(self) -> &'static Text {
        match self {
            Language::Swedish => &SWEDISH,
            Language::English => &ENGLISH,
        }
    }

    /// Returns the language of a tag, whatever its region.
    pub(super) fn named(tag: &str) -> Option<Language> {
        let primary = tag.split('-').next().unwrap_or_default();
        Language::ALL
            .into_iter()
            .find(|language| primary.eq_ignore_ascii_case(language.code()))
    }

    /// Returns the language that an `Accept-Language` header (RFC 9110, section 12.5.4) prefers of
    /// those that the page has; English where it names neither, as most readers of neither know
    /// some English.
    pub(super) fn choose(header: &str) -> Language {
        let mut best = (Language::English, 0.0);
        for range in header.split(',') {
            let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
            let weight = weight.trim().strip_prefix("q=");
            let weight: f32 = weight.and_then(|text| text.parse().ok()).unwrap_or(0.0);
            if let Some(language) = Language::named(tag.trim())
                && weight > best.1
            {
                best = (language, weight);
            }
        }
        best.0
    }
}

/// Replaces the first `{}` with a value.
pub(super) fn fill(text: &str, value: &str) -> String {
    text.replacen("{}", value, 1)
}

/// Every text of the page; [`fill`] replaces each `{}`.
pub(super) struct Text {
    pub(super) title: &'static str,
    pub(super) language: &'static str,
    pub(super) lead: &'static str,
    pub(super) why: &'static str,
    pub(super) why_intro: &'static str,
    pub(super) cookies: &'static str,
    /// `{}` is the name of the visitor cookie, then that of the choice cookie.
    pub(super) cookies_why: &'static str,
    pub(super) visits: &'static str,
    pub(super) visits_why: &'static str,
    pub(super) ads: &'static str,
    pub(super) ads_why: &'static str,
    pub(super) place: &'static str,
    pub(super) place_why: &'static str,
    /// What is stored of the address: nothing, its beginning, all of it.
    pub(super) address: [&'static str; 3],
    pub(super) device: &'static str,
    pub(super) device_why: &'static str,
    pub(super) partner_id: &'static str,
    pub(super) partner_id_why: &'static str,
    pub(super) stored: &'static str,
    pub(super) no_cookie: &'static str,
    pub(super) nothing: &'static str,
    pub(super) number: &'static str,
    pub(super) made: &'static str,
    /// How long ago: today, yesterday, days ago.
    pub(super) ago: [&'static str; 3],
    pub(super) hits: &'static str,
    /// `{}` is how many are shown, then how many there are in all.
    pub(super) hits_shown: &'static str,
    /// Where there are more than are counted: what takes the place of how many there are, and what
    /// follows.
    pub(super) more_than: [&'static str; 2],
    pub(super) kinds: [(&'static str, &'static str); 6],
    pub(super) devices: [(&'static str, &'static str); 9],
    /// Shown once and shown more often; then the same for clicks.
    pub(super) seen: [&'static str; 2],
    pub(super) clicked: [&'static str; 2],
    pub(super) ad_without_name: &'static str,
    pub(super) tied: &'static str,
    pub(super) tied_why: &'static str,
    pub(super) tied_nothing: &'static str,
    /// What a device is called, by its kind; `{}` is the partner.
    pub(super) tied_kinds: [(&'static str, &'static str); 4],
    /// `{}` is the reasons.
    pub(super) tied_because: &'static str,
    pub(super) tie_reasons: [(&'static str, &'static str); 6],
    /// The reason where there is none of these.
    pub(super) tie_indirect: &'static str,
    /// `{}` is the first day, then the last.
    pub(super) tied_since: &'static str,
    pub(super) not_mine: &'static str,
    pub(super) forget: &'static str,
    pub(super) tied_buttons: &'static str,
    pub(super) home: &'static str,
    pub(super) home_why: &'static str,
    pub(super) home_nothing: &'static str,
    pub(super) home_never: &'static str,
    /// `{}` is with how many others, then on how many days, then at how many addresses.
    pub(super) home_shared: &'static str,
    /// One other, two or three, four or more.
    pub(super) home_others: [&'static str; 3],
    /// One day, more days.
    pub(super) home_days: [&'static str; 2],
    /// One address, more addresses.
    pub(super) home_addresses: [&'static str; 2],
    pub(super) home_leave: &'static str,
    pub(super) home_refuse: &'static str,
    pub(super) choose: &'static str,
    /// `{}` is what is allowed, then what decided it.
    pub(super) now: &'static str,
    pub(super) now_nothing: &'static str,
    /// What decided it: the site, the visitor, GPC, a consent platform.
    pub(super) by_default: &'static str,
    pub(super) by_choice: &'static str,
    pub(super) by_gpc: &'static str,
    pub(super) by_platform: &'static str,
    pub(super) gpc: &'static str,
    pub(super) allow: &'static str,
    /// For each flag of the permit: its name, its label, what it allows.
    pub(super) flags: [(&'static str, &'static str, &'static str); 6],
    pub(super) save: &'static str,
    pub(super) platform: &'static str,
    pub(super) download: &'static str,
    pub(super) download_why: &'static str,
    pub(super) download_button: &'static str,
    pub(super) delete: &'static str,
    pub(super) delete_why: &'static str,
    pub(super) delete_button: &'static str,
    pub(super) retention: &'static str,
    pub(super) elsewhere: &'static str,
    pub(super) places_from: &'static str,
    pub(super) networks_from: &'static str,
    pub(super) back: &'static str,
    pub(super) done_choice: &'static str,
    pub(super) done_erasure: &'static str,
    pub(super) done_not_mine: &'static str,
    pub(super) done_forget: &'static str,
    pub(super) away: &'static str,
    pub(super) busy: &'static str,
    pub(super) old_form: &'static str,
    pub(super) framed: &'static str,
    pub(super) site_unknown: &'static str,
    pub(super) not_kept: &'static str,
    pub(super) wrong: &'static str,
    pub(super) months: [&'static str; 12],
}

static SWEDISH: Text = Text {
    title: "Dina uppgifter",
    language: "Språk",
    lead: "Här ser du vad {} sparar om den här webbläsaren. Du kan ta med dig det, bestämma vad som får sparas och radera allt.",
    why: "Vad som samlas in, och varför",
    why_intro: "Det du säger nej till sparas inte. Utan mätning blir ett besök bara en siffra i en räknare.",
    cookies: "Egna kakor",
    cookies_why: "Kakan {} är ett slumpat nummer som känner igen webbläsaren mellan besöken, så att vi kan räkna besökare och inte bara sidvisningar. Kakan {} minns ditt val.",
    visits: "Besök",
    visits_why: "Vilken sida du öppnar, när, och varifrån du kom. Så ser vi vad som används och vad som behöver bli bättre.",
    ads: "Annonser",
    ads_why: "Vilka annonser du har sett och klickat på. Så ser vi vad en kampanj ger, och vad vi ska betala för den.",
    place: "Plats",
    place_why: "Ungefär var du är, beräknat utifrån IP-adressen: land och region, och ort om du tillåter det.",
    address: [
        "Själva adressen sparas inte i databasen.",
        "Av själva adressen sparas bara början.",
        "Även IP-adressen sparas.",
    ],
    device: "Enhet",
    device_why: "Vilken sorts enhet, vilket operativsystem och vilken webbläsare du använder, så att sidorna fungerar där.",
    partner_id: "Partner-ID",
    partner_id_why: "Annonsnätverkens egna nummer för din webbläsare eller mobil, så att deras siffror går att jämföra med våra.",
    stored: "Sparat om den här webbläsaren",
    no_cookie: "Webbläsaren har ingen kaka från oss, så det finns inget att visa. Använder du flera webbläsare eller enheter får du öppna sidan i var och en av dem.",
    nothing: "Inget är sparat än. Det dröjer några sekunder från ett besök tills det syns här.",
    number: "Webbläsarens nummer",
    made: "Skapat",
    ago: ["i dag", "i går", "för {} dagar sedan"],
    hits: "Senaste händelserna",
    hits_shown: "Visar {} av {}. Tiderna är i svensk tid. Alla finns i filen som du kan ladda ner.",
    more_than: [
        "fler än 10 000",
        "Hur ofta du såg en annons är räknat i de senaste 10 000.",
    ],
    kinds: [
        ("page_view", "Sidvisning"),
        ("event", "Händelse"),
        ("impression", "Annons visad"),
        ("click", "Annons klickad"),
        ("callback", "Rapport från annonsnätverk"),
        ("sync", "Utbyte av ID"),
    ],
    devices: [
        ("phone", "mobil"),
        ("tablet", "surfplatta"),
        ("desktop", "dator"),
        ("tv", "tv"),
        ("console", "spelkonsol"),
        ("car", "bil"),
        ("watch", "klocka"),
        ("bot", "robot"),
        ("other", "annan enhet"),
    ],
    seen: ["Visad en gång", "Visad {} gånger"],
    clicked: ["klickad en gång", "klickad {} gånger"],
    ad_without_name: "Annons utan namn",
    tied: "Enheter som vi tror är dina",
    tied_why: "Här visas bara sådant som en inloggning, ett av våra egna system eller en partner har intygat. Om flera personer använder enheten visas ingenting.",
    tied_nothing: "Det finns inget att visa.",
    tied_kinds: [
        ("visitor", "En annan webbläsare"),
        ("maid", "En mobil eller surfplatta"),
        ("device_id", "En app eller en annan enhet"),
        ("partner_uid", "Ett nummer hos annonsnätverket {}"),
    ],
    tied_because: "Skäl: {}.",
    tie_reasons: [
        ("user", "samma inloggning har använts på båda"),
        ("visitor", "båda har setts med samma webbläsare"),
        ("maid", "båda har samma annons-ID"),
        ("device_id", "båda har samma enhets-ID"),
        ("partner_uid", "båda har samma nummer hos ett annonsnätverk"),
        ("together", "de har setts tillsammans"),
    ],
    tie_indirect: "flera av dina ID:n leder dit",
    tied_since: "Kopplad sedan {}, senast omkring {}.",
    not_mine: "Inte min",
    forget: "Glöm kopplingen",
    tied_buttons: "Inte min: enheten kopplas aldrig mer till den här webbläsaren. Glöm kopplingen: den raderas nu, men kan uppstå igen om enheterna ses tillsammans på nytt.",
    home: "Ditt hushåll",
    home_why: "Vi vet inte var hemmet är eller vilka som bor där. Antalen är avrundade, och en ändring syns här först efter 14 dagar, så att ingen kan se vem som har flyttat. Samma hem räknas som en ny adress var fjortonde dag, eftersom adressen inte sparas.",
    home_nothing: "Det finns inget att visa.",
    home_never: "Du har sagt att ditt hushåll aldrig ska beräknas. Därför görs det inte.",
    home_shared: "Vi tror att den här enheten delar hem med {}, eftersom de har varit hemma samtidigt under {}, {}.",
    home_others: [
        "en annan enhet",
        "2 till 3 andra enheter",
        "4 eller fler andra enheter",
    ],
    home_days: ["minst en dag", "minst {} dagar"],
    home_addresses: ["på en och samma adress", "på mer än en adress"],
    home_leave: "Inte mitt hem",
    home_refuse: "Beräkna aldrig mitt hushåll",
    choose: "Ditt val",
    now: "Just nu tillåtet: {}. {}",
    now_nothing: "ingenting",
    by_default: "Det är webbplatsens grundinställning; du har inte valt något.",
    by_choice: "Det har du själv valt.",
    by_gpc: "Det bestämmer din webbläsare, som skickar Global Privacy Control.",
    by_platform: "Det har du svarat i webbplatsens samtyckesruta.",
    gpc: "Din webbläsare skickar Global Privacy Control. Därför är anpassning, jämförelse med partner och koppling av enheter avstängda, vad du än väljer här.",
    allow: "Jag tillåter",
    flags: [
        (
            "store",
            "Igenkänning",
            "En kaka med ett slumpat nummer, och ID från partner. Utan den försvinner kakan, och då kan sidan inte längre visa eller radera det som redan är sparat. Vill du få bort det, radera först.",
        ),
        (
            "measure",
            "Mätning",
            "Varje sidvisning, annons och klick sparas med tid, sida och enhet.",
        ),
        (
            "profile",
            "Anpassning",
            "Webbläsaren får ingå i målgrupper efter vad du har tittat på.",
        ),
        (
            "match",
            "Jämförelse med partner",
            "Webbläsarens nummer får kopplas till annonsnätverkens.",
        ),
        (
            "link",
            "Koppling av enheter",
            "Din mobil, din dator och ditt hushåll får kopplas ihop.",
        ),
        (
            "locate",
            "Ort",
            "Ort, postnummer och ungefärliga koordinater från IP-adressen. Utan det sparas bara land och region.",
        ),
    ],
    save: "Spara mitt val",
    platform: "Har webbplatsen en samtyckesruta gäller bara det som du tillåter på båda ställena.",
    download: "Ta med dig uppgifterna",
    download_why: "En JSON-fil med allt som är sparat om den här webbläsaren, inte bara det som syns här ovanför.",
    download_button: "Ladda ner filen",
    delete: "Radera allt",
    delete_why: "Allt som är sparat om den här webbläsaren raderas, kakan tas bort och inget mer sparas. Det går inte att ångra.",
    delete_button: "Radera mina uppgifter",
    retention: "Uppgifter raderas automatiskt efter {} dagar.",
    elsewhere: "Annonser på andra webbplatser använder ett eget nummer för varje webbplats. Det kan den här sidan inte läsa, så de visningarna syns inte här.",
    places_from: "Platserna kommer från",
    networks_from: "Nätverken kommer från",
    back: "Till sidan med dina uppgifter",
    done_choice: "Ditt val är sparat. Det gäller från och med nästa sida du öppnar.",
    done_erasure: "Raderingen är registrerad. Den är klar inom några sekunder, eller så snart databasen är i gång igen.",
    done_not_mine: "Det är noterat. Enheten kopplas inte mer till den här webbläsaren.",
    done_forget: "Kopplingen är raderad.",
    away: "Databasen svarar inte just nu, så det sparade kan inte visas. Du kan ändå välja och radera.",
    busy: "Det har kommit många frågor på kort tid, så det sparade kan inte visas just nu. Försök igen om en liten stund. Du kan ändå välja och radera.",
    old_form: "Sidan hann bli för gammal, och inget har ändrats. Öppna den på nytt och försök igen.",
    framed: "Dina uppgifter visas inte inuti en annan sida. Öppna sidan för sig.",
    site_unknown: "Länken säger inte vilken webbplats det gäller.",
    not_kept: "Det gick inte att ta emot just nu, och inget har ändrats. Försök igen om en liten stund.",
    wrong: "Något blev fel, och inget har ändrats.",
    months: [
        "januari",
        "februari",
        "mars",
        "april",
        "maj",
        "juni",
        "juli",
        "augusti",
        "september",
        "oktober",
        "november",
        "december",
    ],
};

static ENGLISH: Text = Text {
    title: "Your data",
    language: "Language",
    lead: "This is what {} keeps about this browser. You can take it with you, decide what may be kept, and delete it all.",
    why: "What is collected, and why",
    why_intro: "What you say no to is not kept. Without measurement a visit is only a number in a counter.",
    cookies: "Our own cookies",
    cookies_why: "The cookie {} is a random number that recognises the browser between visits, so that we can count visitors and not just page views. The cookie {} remembers your choice.",
    visits: "Visits",
    visits_why: "Which page you open, when, and where you came from. That shows us what is used and what needs to get better.",
    ads: "Ads",
    ads_why: "Which ads you have seen and clicked. That shows us what a campaign brings, and what to pay for it.",
    place: "Place",
    place_why: "Roughly where you are, looked up by IP address: country and region, and the town if you allow it.",
    address: [
        "The address itself is not kept in the database.",
        "Of the address itself only the beginning is kept.",
        "The IP address is kept too.",
    ],
    device: "Device",
    device_why: "What kind of device, operating system and browser you use, so that the pages work on them.",
    partner_id: "Partner IDs",
    partner_id_why: "The ad networks' own numbers for your browser or phone, so that their figures can be compared with ours.",
    stored: "Kept about this browser",
    no_cookie: "This browser has no cookie of ours, so there is nothing to show. If you use several browsers or devices, open this page in each of them.",
    nothing: "Nothing is kept yet. A visit takes a few seconds to appear here.",
    number: "The browser's number",
    made: "Made",
    ago: ["today", "yesterday", "{} days ago"],
    hits: "What happened last",
    hits_shown: "Shows {} of {}. Times are Swedish. All of them are in the file that you can download.",
    more_than: [
        "more than 10,000",
        "How often you saw an ad is counted in the last 10,000.",
    ],
    kinds: [
        ("page_view", "Page view"),
        ("event", "Event"),
        ("impression", "Ad shown"),
        ("click", "Ad clicked"),
        ("callback", "Report from an ad network"),
        ("sync", "Exchange of IDs"),
    ],
    devices: [
        ("phone", "phone"),
        ("tablet", "tablet"),
        ("desktop", "computer"),
        ("tv", "TV"),
        ("console", "games console"),
        ("car", "car"),
        ("watch", "watch"),
        ("bot", "robot"),
        ("other", "other device"),
    ],
    seen: ["Shown once", "Shown {} times"],
    clicked: ["clicked once", "clicked {} times"],
    ad_without_name: "Ad without a name",
    tied: "Devices that we believe are yours",
    tied_why: "Only what a login, one of our own systems or a partner vouches for is shown here. If several people use this device, nothing is shown.",
    tied_nothing: "There is nothing to show.",
    tied_kinds: [
        ("visitor", "Another browser"),
        ("maid", "A phone or tablet"),
        ("device_id", "An app or another device"),
        ("partner_uid", "A number of the ad network {}"),
    ],
    tied_because: "Reason: {}.",
    tie_reasons: [
        ("user", "the same login was used on both"),
        ("visitor", "both were seen with the same browser"),
        ("maid", "both have the same advertising ID"),
        ("device_id", "both have the same device ID"),
        ("partner_uid", "both have the same number at an ad network"),
        ("together", "they were seen together"),
    ],
    tie_indirect: "several of your IDs lead to it",
    tied_since: "Connected since {}, last about {}.",
    not_mine: "Not mine",
    forget: "Forget the tie",
    tied_buttons: "Not mine: the device is never connected with this browser again. Forget the tie: it is deleted now, but may come back if the two are seen together again.",
    home: "Your household",
    home_why: "We do not know where the home is or who lives there. Numbers are rounded, and a change shows here only after 14 days, so that nobody can tell who moved. The same home counts as a new address every 14 days, because the address is not kept.",
    home_nothing: "There is nothing to show.",
    home_never: "You said that your household is never to be computed, so it is not.",
    home_shared: "We believe that this device shares a home with {}, because they were at home together on {}, {}.",
    home_others: [
        "one other device",
        "2 to 3 other devices",
        "4 or more other devices",
    ],
    home_days: ["at least one day", "at least {} days"],
    home_addresses: ["at one and the same address", "at more than one address"],
    home_leave: "Not my home",
    home_refuse: "Never compute my household",
    choose: "Your choice",
    now: "Allowed now: {}. {}",
    now_nothing: "nothing",
    by_default: "That is the site's own setting; you have not chosen.",
    by_choice: "You chose that yourself.",
    by_gpc: "Your browser decided that: it sends Global Privacy Control.",
    by_platform: "That is what you answered when the site asked for your consent.",
    gpc: "Your browser sends Global Privacy Control. So personalisation, comparison with partners and connecting devices are off, whatever you choose here.",
    allow: "I allow",
    flags: [
        (
            "store",
            "Recognition",
            "A cookie with a random number, and IDs from partners. Without it the cookie goes, and this page can no longer show or delete what is already kept. If you want that gone, delete it first.",
        ),
        (
            "measure",
            "Measurement",
            "Each page view, ad and click is kept with its time, page and device.",
        ),
        (
            "profile",
            "Personalisation",
            "The browser may be part of audiences, by what you have looked at.",
        ),
        (
            "match",
            "Comparison with partners",
            "The browser's number may be connected with those of ad networks.",
        ),
        (
            "link",
            "Connecting devices",
            "Your phone, your computer and your household may be recognised as belonging together.",
        ),
        (
            "locate",
            "Town",
            "Town, postal code and rough coordinates, by IP address. Without it only country and region are kept.",
        ),
    ],
    save: "Save my choice",
    platform: "If the site itself asks for your consent, only what you allow in both places holds.",
    download: "Take your data with you",
    download_why: "A JSON file with all that is kept about this browser, not only what is shown above.",
    download_button: "Download the file",
    delete: "Delete it all",
    delete_why: "All that is kept about this browser is deleted, the cookie goes, and nothing more is kept. This cannot be undone.",
    delete_button: "Delete my data",
    retention: "Data are deleted automatically after {} days.",
    elsewhere: "Ads on other sites use a separate number for each site. This page cannot read it, so those are not shown here.",
    places_from: "Places are from",
    networks_from: "Networks are from",
    back: "To the page with your data",
    done_choice: "Your choice is saved. It holds from the next page that you open.",
    done_erasure: "The deletion is recorded. It is done within seconds, or as soon as the database is running again.",
    done_not_mine: "That is noted. The device is no longer connected with this browser.",
    done_forget: "The tie is deleted.",
    away: "The database does not answer just now, so what is kept cannot be shown. You can still choose and delete.",
    busy: "Many questions came in a short time, so what is kept cannot be shown just now. Try again in a little while. You can still choose and delete.",
    old_form: "The page had become too old, and nothing has changed. Open it anew and try again.",
    framed: "Your data are not shown inside another page. Open this page by itself.",
    site_unknown: "The link does not say which site it is about.",
    not_kept: "That could not be taken just now, and nothing has changed. Try again in a little while.",
    wrong: "The request could not be understood, and nothing has changed.",
    months: [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit::Permit;

    #[test]
    fn the_language_is_the_one_that_the_reader_prefers() {
        for (header, language) in [
            ("sv-SE,sv;q=0.9,en-US;q=0.8,en;q=0.7", Language::Swedish),
            ("en-GB,en;q=0.9,sv;q=0.8", Language::English),
            ("de,sv;q=0.3", Language::Swedish),
            ("SV", Language::Swedish),
            ("sv;q=0.4, en;q=0.5", Language::English),
            ("sv;q=0", Language::English),
            ("svx", Language::English),
            ("de", Language::English),
            ("*", Language::English),
            ("", Language::English),
            ("sv;q=x,;;,=", Language::English),
        ] {
            assert_eq!(Language::choose(header), language, "{header}");
        }
    }

    #[test]
    fn each_language_explains_each_flag_in_the_order_of_the_permit() {
        for language in Language::ALL {
            let names = language.text().flags.map(|(name, ..)| name);
            assert_eq!(names, Permit::NAMED.map(|(name, _)| name));
        }
    }
}
