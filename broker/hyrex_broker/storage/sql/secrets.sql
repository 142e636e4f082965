-- name: secret
-- A secret that all brokers share. $1 what it is for.
select secret from shared_secret where purpose = $1::text
