package lab

import (
	"context"
	"fmt"
)

// samples are what a new instance holds on request: two databases in FULL, one of them
// with a name that needs quoting everywhere, and one in SIMPLE.
const samples = `
CREATE DATABASE sales;
CREATE DATABASE stock;
CREATE DATABASE [it's, ünï];
ALTER DATABASE stock SET RECOVERY SIMPLE;
CREATE TABLE sales.dbo.customers (id INT NOT NULL PRIMARY KEY, name NVARCHAR(100) NOT NULL, since DATETIME2(0));
CREATE TABLE sales.dbo.orders (id INT IDENTITY(1,1) PRIMARY KEY, customer INT NOT NULL, total DECIMAL(12,2) NOT NULL, placed DATETIME NULL);
CREATE TABLE stock.dbo.items (id INT NOT NULL PRIMARY KEY, name NVARCHAR(100) NOT NULL, amount INT NOT NULL DEFAULT 0);
CREATE TABLE [it's, ünï].dbo.notes (id INT NOT NULL PRIMARY KEY, text NVARCHAR(MAX));
INSERT INTO sales.dbo.customers VALUES (1, N'Grünwald & Söhne', '2019-04-01'), (2, N'O''Hara', '2021-11-30'), (3, N'東京商事', NULL);
DECLARE @n INT = 0;
WHILE @n < 100 BEGIN SET @n = @n + 1; INSERT INTO sales.dbo.orders (customer, total, placed) VALUES (@n % 3 + 1, @n * 1.25, GETDATE()); END;
INSERT INTO stock.dbo.items (id, name, amount) VALUES (1, N'bolt', 1000), (2, N'nut', 2000), (3, N'washer', 500);
INSERT INTO [it's, ünï].dbo.notes VALUES (1, N'a name with '' and , and ü'), (2, REPLICATE(N'long ', 500));
`

// sample makes the sample databases by the same T-SQL that any client has.
func (l *Lab) sample() error {
	if err := l.sessions.Run(context.Background(), samples); err != nil {
		return fmt.Errorf("make sample databases: %w", err)
	}
	return nil
}
