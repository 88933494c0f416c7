"use strict";

SwaggerUIBundle({
  dom_id: "#viewer",
  url: "docs/openapi.json",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  validatorUrl: null,
});
