# What a warehouse needs on AWS besides its machine: Postgres, object storage, who may use them, secrets, alarms.
terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.90"
    }
  }

  # The state holds no password (the server's is made and kept by AWS), and belongs into a bucket of your own:
  # terraform init -backend-config=bucket=... -backend-config=key=granary/prod.tfstate
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = {
      application = "granary"
      environment = var.environment
    }
  }
}
