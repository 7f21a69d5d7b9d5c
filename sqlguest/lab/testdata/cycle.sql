-- A life of a database: create, write, back up to disk, drop, restore, select.
-- FreeTDS tsql sends each batch at its go.
create database [round 'trip]
go
use [round 'trip]
create table dbo.people (id int identity(1,1) primary key, name nvarchar(40) not null, born date null, paid decimal(10,2))
insert into people (name, born, paid) values (N'Ada', '1815-12-10', 12.5), (N'Grace', '1906-12-09', 7)
select id, name, born, paid from people order by id
go
declare @i int
set @i = 0
while @i < 3
begin
    set @i = @i + 1
    insert into people (name) values ('extra ' + cast(@i as varchar(10)))
end
select count(*) as people from people
go
use master
backup database [round 'trip] to disk = N'C:\Backup\round.bak' with init, stats = 50
go
begin tran leave with mark 'they leave'
delete from [round 'trip].dbo.people where name like 'extra%'
commit
backup log [round 'trip] to disk = N'C:\Backup\round.trn' with init
go
drop database [round 'trip]
go
select name from [round 'trip].dbo.people
go
restore database [round 'trip] from disk = N'C:\Backup\round.bak' with norecovery
restore log [round 'trip] from disk = N'C:\Backup\round.trn' with recovery, stopbeforemark = 'leave'
go
select name + ' is back' as who from [round 'trip].dbo.people where id in (1, 5)
select database_name, mark_name, description from msdb.dbo.logmarkhistory
go
backup log [round 'trip] to disk = N'C:\Backup\round2.trn'
backup database nowhere to disk = N'NUL'
go
print 'the end'
go
