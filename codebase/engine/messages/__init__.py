"""Events and commands by RabbitMQ."""
