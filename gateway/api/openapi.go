package api

import _ "embed"

// OpenAPI is the OpenAPI 3.1 document of all routes, as JSON. A test makes it of the routes and
// the types of their bodies and answers.
//
//go:embed openapi.json
var OpenAPI []byte
