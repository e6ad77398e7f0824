-- Comments for functions that had none, and what reports about sites count and a file is known by, said exactly.

comment on function avtryck.kind_name(smallint) is 'The kind of a hit as a word, such as page_view; null for none.';
comment on function avtryck.consent_source_name(smallint) is 'The signal that decided the permit of a hit, as a word; null for none.';
comment on function avtryck.permit_names(smallint) is 'What a permit allows, as words.';
comment on function avtryck.flag_names(integer) is 'The flags of a hit, as words.';
comment on function avtryck.number_of(text) is 'A text as a number: digits with at most one point, and no exponent. Null if it is none, or one of more than 15 digits before the point or behind it.';

comment on column avtryck.import_file.sha256 is 'The SHA-256 of that of the file (of several files, of their digests) and of what the manifest makes of its bytes.';

comment on view avtryck.web_session is 'Sessions with a page view: the page views and events of a visitor on a site with the same session_id or, without one, until 30 minutes pass without any. A session_id without a visitor stands for one. In the order of the sender''s time where it gives one; none goes beyond its day. Who sent events alone is in no row. Valid hits that name no ad.';
comment on column avtryck.web_session.page_views is 'How many page views; at least one.';
comment on column avtryck.web_session.events is 'How many events of the session, engagement and scroll left out.';
comment on view avtryck.web_daily is 'Sessions with a page view of each site a day by where they came from, device class and country, and page views without a session. Valid hits that name no ad. Events outside of such sessions are in web_event_daily alone.';
comment on column avtryck.web_daily.sessions is 'How many sessions with a page view.';
comment on column avtryck.web_daily.visitors is 'How many visitors have these sessions. Those of two rows cannot be added up.';
comment on column avtryck.web_daily.page_views is 'How many page views: those of sessions, and those that have neither a visitor nor a session_id.';
comment on column avtryck.web_daily.events is 'How many events of sessions with a page view, engagement and scroll left out. web_event_daily has all events.';
comment on view avtryck.web_event_daily is 'Events of each site a day: goals, for example. Those without a visitor and those of sessions without a page view count too. Valid hits that name no ad.';
comment on column avtryck.web_day.sessions is 'As web_daily.sessions.';
comment on column avtryck.web_day.visitors is 'As web_daily.visitors.';
comment on column avtryck.web_day.page_views is 'As web_daily.page_views.';
comment on column avtryck.web_day.events is 'As web_daily.events.';
comment on column avtryck.web_sum.sessions is 'As web_daily.sessions.';
comment on column avtryck.web_sum.visitors is 'As web_daily.visitors.';
comment on column avtryck.web_sum.page_views is 'As web_daily.page_views.';
comment on column avtryck.web_sum.events is 'As web_daily.events.';
