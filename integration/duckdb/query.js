// Runs the statements that standard input has as a JSON array, one after the other,
// and prints the version of DuckDB and then the rows of each, as JSON. The argument
// is where DuckDB is installed.
const { DuckDBInstance } = require(process.argv[2] + '/node_modules/@duckdb/node-api');
const { readFileSync } = require('node:fs');

(async () => {
	const instance = await DuckDBInstance.create(':memory:');
	const connection = await instance.connect();
	const run = async (statement) => (await connection.runAndReadAll(statement)).getRowsJson();
	const [[version]] = await run('SELECT version()');
	const rows = [];
	for (const statement of JSON.parse(readFileSync(0, 'utf8'))) {
		rows.push(await run(statement));
	}
	console.log(JSON.stringify({ version, rows }));
})();
