select count(*) as hits from recent
