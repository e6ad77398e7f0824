-- A signal that was meant and is not understood decides too. Its hits are counts, so no row has it.

create or replace function avtryck.consent_source_name(source smallint) returns text language sql immutable parallel safe
    return (array['default', 'choice', 'gpc', 'tcf', 'gpp', 'gdpr_0', 'unclear'])[source];
comment on column avtryck.hit.consent_source is 'The signal that decided the permit: 1 default, 2 choice, 3 gpc, 4 tcf, 5 gpp, 6 gdpr_0.';
